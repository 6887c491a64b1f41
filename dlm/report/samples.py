"""Answers beside their references, with what differs marked."""

import json
import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from html import escape
from typing import Any

from dlm.report.run import Run, Stage
from dlm.report.score_tables import Entry
from dlm.report.tables import sources_line

_ROWS = 5


def stage_samples(stages: Sequence[tuple[int, Run, Stage]]) -> str:
    """The answers to validation prompts at the exported step, else at the last one."""
    answers: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    sources = []
    for _, run, stage in stages:
        if stage.samples:
            step = stage.exported_step
            step = step if step in stage.samples else max(stage.samples)
            label = f"step {step:,}" if run.alone else f"{run.label}, step {step:,}"
            sources.append(run.place(stage.directory / "samples" / f"step={step:08d}.jsonl"))
            _add(answers, label, stage.samples[step])
    return _samples_html(answers, sources)


def task_samples(entries: Sequence[Entry]) -> str:
    """The first rows of a task, as every system answered them."""
    answers: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    sources = []
    for entry in entries:
        if entry.scored.samples:
            sources.append(entry.run.place(entry.scored.file.with_name("samples.jsonl")))
            _add(answers, entry.label, entry.scored.samples)
    return _samples_html(answers, sources)


def _add(answers: dict[str, list[tuple[str, Mapping[str, Any]]]], label: str,
         samples: Sequence[Mapping[str, Any]]) -> None:  # fmt: skip
    """Rows are matched by what was asked and what is right: a system may have skipped some."""
    for sample in samples[:_ROWS]:
        answers.setdefault(_key(sample), []).append((label, sample))


def _key(sample: Mapping[str, Any]) -> str:
    return json.dumps([sample.get(name) for name in ("source", "reference", "choices", "text")])


def _samples_html(answers: Mapping[str, list[tuple[str, Mapping[str, Any]]]],
                  sources: Sequence[str]) -> str:  # fmt: skip
    rows = [_row_html(given) for given in list(answers.values())[:_ROWS]]
    return "".join(rows) + sources_line(sources) if rows else ""


def _row_html(given: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    first = given[0][1]
    parts = [("source", cut(str(first.get("source") or "")))]
    if "choices" in first:
        parts.append(("right", _choice(first, "right")))
        parts += [(label, _choice(sample, "chosen")) for label, sample in given]
    elif "bound" in first:
        parts.append(("text", cut(str(first.get("text", "")))))
        parts += [(label, _bound(sample)) for label, sample in given]
    else:
        reference = str(first.get("reference", ""))
        parts.append(("reference", cut(reference)))
        parts += [
            (label, difference_html(reference, str(sample.get("hypothesis", ""))))
            for label, sample in given
        ]
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{markup}</dd></div>" for name, markup in parts if markup
    )
    return f'<dl class="sample">{shown}</dl>'


def _choice(sample: Mapping[str, Any], name: str) -> str:
    return cut(str(sample["choices"][sample[name]]))


def _bound(sample: Mapping[str, Any]) -> str:
    return f"{sample['bound'] / sample['tokens']:.3f} nats a token"


_WORDS = re.compile(r"\w+|[^\w\s]")
_LIMIT = 1500


def difference_html(reference: str, answer: str) -> str:
    """The answer; ``<ins>``: not in the reference, ``<del>``: the reference's that it lacks."""
    (old, cut_old), (new, cut_new) = _words(reference), _words(answer)
    texts = [text for text, _ in old], [text for text, _ in new]
    parts: list[str] = []
    matcher = SequenceMatcher(a=texts[0], b=texts[1], autojunk=False)
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag == "equal":
            _append(parts, "", new[new_from:new_to])
            continue
        _append(parts, "del", old[old_from:old_to])
        _append(parts, "ins", new[new_from:new_to])
    shown = "".join(parts).strip() or '<span class="empty">(empty)</span>'
    return shown + (' <span class="empty">(cut here)</span>' if cut_old or cut_new else "")


def cut(text: str) -> str:
    """A text as HTML, cut where it would fill the page."""
    return escape(text if len(text) <= _LIMIT else f"{text[:_LIMIT]} (cut here)")


def _words(text: str) -> tuple[list[tuple[str, bool]], bool]:
    """Words and signs, each with whether a space stands before it; and whether text was cut."""
    shown = text[:_LIMIT]
    found = [
        (match[0], match.start() > 0 and shown[match.start() - 1].isspace())
        for match in _WORDS.finditer(shown)
    ]
    return found, len(text) > _LIMIT


def _joined(words: list[tuple[str, bool]]) -> str:
    return "".join((" " if space else "") + escape(text) for text, space in words)


def _append(parts: list[str], tag: str, words: list[tuple[str, bool]]) -> None:
    if not words:
        return
    text = _joined(words).strip()
    # What follows a mark may have been the first of its text, or stand against another mark.
    after_mark = bool(parts) and parts[-1].endswith(">") and (bool(tag) or words[0][0].isalnum())
    space = " " if words[0][1] or after_mark else ""
    parts.append(f"{space}<{tag}>{text}</{tag}>" if tag else f"{space}{text}")
