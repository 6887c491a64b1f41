"""What an answer has otherwise than the reference, word by word."""

import re
from difflib import SequenceMatcher
from html import escape

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
