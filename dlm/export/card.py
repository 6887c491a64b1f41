"""The model card: README.md of an export, made from the manifests of its run."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dlm.data.prompt_forms import PromptForm
from dlm.evaluation.results import Result
from dlm.evaluation.table import beside_text, score_digits, settings_text
from dlm.export.history import History, PastStage
from dlm.export.origin import NOT_STATED
from dlm.generation.empty import empty_text
from dlm.generation.model import Description
from dlm.quoting import markdown_code, markdown_row, markdown_text, yaml_text

SCRIPT = "diffusion_generate.py"


@dataclass(frozen=True)
class Exported:
    """What the card needs to know of the directory itself."""

    name: str
    architecture: str
    """The transformers class of its weights, e.g. XLMRobertaForMaskedLM."""
    parameters: int
    positions: int
    description: Description
    objective: str
    longest_answer: int | None
    """Of the length predictor; None: there is none."""
    with_script: bool

    @property
    def masked(self) -> bool:
        return self.architecture.endswith("ForMaskedLM")

    @property
    def knows_lengths(self) -> bool:
        """Whether something says how long an answer is."""
        said = self.description
        return bool(self.longest_answer or said.canvas_length or said.kind == "autoregressive")

    @property
    def auto_class(self) -> str:
        return "AutoModelForMaskedLM" if self.masked else "AutoModelForCausalLM"


def model_card(exported: Exported, history: History) -> str:
    """The whole card, front matter included."""
    parts = [
        _front_matter(exported, history), f"# {markdown_text(exported.name)}", _what(exported),
        "## How to use it", *_use(exported), "## How it was made", *_made(history),
        "## Scores", *_scores(history.results), "## Limits", _list(_limits(exported, history)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _front_matter(exported: Exported, history: History) -> str:
    recipe, kind = history.recipe, exported.description.kind
    hubs = [rows.hub for stage in history.stages for rows in stage.rows if rows.hub]
    diffusion = ["diffusion-language-model", "masked-diffusion"] if kind == "diffusion" else []
    values: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask" if kind == "diffusion" and exported.masked
        else "text-generation",
        "language": list(recipe.languages) if recipe else None,
        "license": recipe.license if recipe else None,
        "base_model": history.hub_models,
        "datasets": list(dict.fromkeys(hubs)),
        "tags": ["dlm", *diffusion, *([kind] if kind != "diffusion" else [])],
    }  # fmt: skip
    stated = {key: value for key, value in values.items() if value}
    return f"---\n{yaml_text(stated)}---"


def _what(exported: Exported) -> str:
    said = exported.description
    if said.kind == "autoregressive":
        what = (
            "An autoregressive model, the twin of a diffusion language model: it writes from left "
            "to right, "
            + (
                "from the beginning of a text on, which may be empty"
                if said.texts
                else "behind a prompt that is read as a whole"
            )
        )
    else:
        what = (
            "A masked diffusion language model: it answers a prompt by filling in a row of masks "
            "over several iterations"
        )
    lengths = ""
    if exported.longest_answer:
        lengths = (
            f" A length predictor, which reads the prompt alone, says how many tokens an answer "
            f"has: 1 to {exported.longest_answer}."
        )
    elif said.canvas_length:
        lengths = f" Answers end themselves on a canvas of {said.canvas_length} tokens."
    elif said.kind == "diffusion":
        lengths = " It has no length predictor: who uses it says how long an answer is."
    return (
        f"{what}. {markdown_text(exported.architecture)}, {exported.parameters:,} parameters, "
        f"{exported.positions} positions, attention {markdown_text(said.attention)}"
        + (f", trained with: {markdown_text(exported.objective)}." if exported.objective else ".")
        + (f" Responses stand {where}." if (where := said.response_positions) else "")
        + lengths
    )


def _use(exported: Exported) -> Iterator[str]:
    yield (
        "The weights, without code from here:\n\n```python\n"
        f"from transformers import {exported.auto_class}, AutoTokenizer\n\n"
        f'model = {exported.auto_class}.from_pretrained("DIR")\n'
        'tokenizer = AutoTokenizer.from_pretrained("DIR")\n```'
    )
    if exported.with_script:
        yield (
            f"Text, with torch and transformers alone (`{SCRIPT}` is short and meant to be read):"
            f'\n\n```bash\npython DIR/{SCRIPT} "a prompt"'
            f"{'' if exported.knows_lengths else ' --length 12'}\n```"
        )
    generate = 'dlm generate DIR --prompt "a prompt"\n' * exported.knows_lengths
    yield (
        "With dlm, which knows every sampler, and under lm-evaluation-harness:\n\n```bash\n"
        f"{generate}dlm evaluate DIR --tasks TASKS --output OUT\n"
        "python -m dlm.harness --model_args path=DIR --tasks TASKS\n```"
    )
    if forms := exported.description.prompts:
        yield _worded(forms)
    if exported.description.generation:
        yield "The settings that its run generated with are in `dlm.json`, and are read from there."


_FORMS_SHOWN = 5


def _worded(forms: Sequence[PromptForm]) -> str:
    """How prompts are to be worded."""
    shown = [
        f"{markdown_code(json.dumps(str(form), ensure_ascii=False))} ({markdown_text(form.task)})"
        for form in forms[:_FORMS_SHOWN]
    ]
    if len(forms) > _FORMS_SHOWN:
        shown.append(f"{len(forms) - _FORMS_SHOWN} more in `dlm.json`")
    parts = [
        "It was trained with prompts of this wording, and is to be asked with it:",
        _list(shown),
    ]
    if any(form.chat_template() for form in forms):
        parts.append(
            "The tokenizer's chat template words conversations so, and `dlm generate` those in the "
            "field `messages` of `--input`."
        )
    return "\n\n".join(parts)


def _made(history: History) -> Iterator[str]:
    if not history.stages:
        yield "Not known: it was not exported from a run of dlm."
        return
    assert history.recipe is not None
    recipe = history.recipe
    about = f": {markdown_text(recipe.description)}" if recipe.description else ""
    yield (
        f"Recipe {markdown_code(recipe.name)}{about}. The stages it stands on, from their "
        "manifests; `training.json` has all their settings."
    )
    yield _table(
        ["stage", "kind", "weights from", "steps", "tokens, about", "seed", "seconds", "finished",
         "commit"],
        [_stage_row(stage) for stage in history.stages],
    )  # fmt: skip
    yield "Training data:"
    rows = [
        [
            stage.name,
            rows.markdown,
            "" if rows.rows is None else f"{rows.rows:,}",
            markdown_text(rows.licence),
        ]
        for stage in history.stages
        for rows in stage.rows
    ]
    yield _table(["stage", "rows from", "rows", "licence"], rows)
    yield "Versions: " + markdown_text("; ".join(_versions(history.stages))) + "."
    if history.remarks:
        yield _list(map(markdown_text, history.remarks))


def _stage_row(stage: PastStage) -> list[str]:
    manifest = stage.manifest
    steps, exported = manifest.metrics.get("steps"), manifest.metrics.get("exported_step")
    shown = "" if steps is None else f"{steps:,}"
    chosen = manifest.metrics.get("exported_by")
    if exported not in (None, steps) or chosen:
        shown += f" (weights of step {exported:,}{f' by {chosen}' if chosen else ''})"
    measured = manifest.metrics.get("throughput") or {}
    tokens = ""
    if steps and measured.get("steps"):
        tokens = f"{round(measured['tokens'] / measured['steps'] * steps):,}"
    start = "" if manifest.identity.kind == "tokenizer" else stage.start or "random"
    commit = manifest.provenance["git_commit"] or "an installed package"
    if len(sha := commit.partition("+")[0]) == 40:
        commit = commit.replace(sha, sha[:12])
    return [
        stage.name, manifest.identity.kind, markdown_text(start), markdown_text(shown), tokens,
        str(manifest.identity.config.get("seed")), f"{manifest.seconds:,.0f}",
        manifest.finished[:10], markdown_text(commit),
    ]  # fmt: skip


def _versions(stages: Sequence[PastStage]) -> list[str]:
    """One text for all stages that were made with the same versions."""
    made: dict[str, list[str]] = {}
    for stage in stages:
        found = stage.manifest.provenance["versions"].items()
        made.setdefault(", ".join(f"{k} {v}" for k, v in found), []).append(stage.name)
    if len(made) == 1:
        return list(made)
    return [f"{text} ({', '.join(names)})" for text, names in made.items()]


def _scores(results: Sequence[Result]) -> Iterator[str]:
    if not results:
        yield "Not evaluated in its run."
        return
    yield (
        "Of this stage, with 95 % intervals over rows. A system is the model with "
        "settings of its own; one with oracle length was told how long each answer is."
    )
    yield _table(
        ["task", "system", "rows", "score", "settings", "signature"],
        [row for result in results for row in _score_rows(result)],
    )  # fmt: skip


def _score_rows(result: Result) -> Iterator[list[str]]:
    metrics = result.metrics
    shots = f", {metrics['few_shot']}-shot" if metrics.get("few_shot") else ""
    sampler = metrics.get("generation", {}).get("sampler", "")
    sampler = f"{sampler}, " if sampler else ""
    chance = f", chance {metrics['chance']:.1f}" if "chance" in metrics else ""
    if empty := metrics.get("empty_answers"):
        chance += f", {empty_text(empty, metrics['rows'])}"
    if endless := metrics.get("answers_without_end"):
        chance += f", {endless} without an end"
    for name, value in metrics["scores"].items():
        digits = score_digits(name)
        error = f" ± {value['standard_error']:.{digits}f}" if "standard_error" in value else ""
        yield [
            markdown_text(f"{result.task} (version {metrics['task_version']}{shots})"),
            markdown_text(result.system),
            str(metrics["rows"]),
            markdown_text(f"{name} {value['score']:.{digits}f}{error} "
            f"[{value['ci95_low']:.{digits}f}, {value['ci95_high']:.{digits}f}]"
            f"{beside_text(name, value)}{chance}"),
            markdown_text(f"{sampler}{settings_text(metrics)}"),
            markdown_code(value["signature"], in_table=True),
        ]  # fmt: skip


def _limits(exported: Exported, history: History) -> Iterator[str]:
    said = exported.description
    if said.kind == "diffusion" and not exported.masked:
        yield (
            "The network is a causal one that was made bidirectional: `model.generate` would read "
            "it as what it no longer is; text comes from `dlm generate`."
        )
    elif said.kind == "diffusion":
        yield (
            "The usual `fill-mask` pipeline fills in a single mask; text needs the iterations of "
            "the script or of `dlm generate`."
        )
    start = said.response_positions.start if said.response_positions else None
    if start is None:
        yield f"Prompt and answer together have at most {exported.positions} tokens."
    else:
        rest = exported.positions - start
        yield f"A prompt has at most {start} tokens, an answer at most {rest}, special ones too."
    if exported.longest_answer:
        yield f"No answer is longer than {exported.longest_answer} tokens."
    if history.results:
        yield "The scores hold for their tasks and settings; nothing else was measured."
    else:
        yield "How good it is was not measured."
    yield (
        "It knows no more than its training data and repeats what is wrong or one-sided in them; "
        "nothing was done to make its answers safe."
    )
    recipe = history.recipe
    if recipe is None or recipe.license is None:
        yield "The licence of the weights is not stated; those of base model and data come first."
    unknown = {row.markdown for stage in history.stages for row in stage.rows
               if row.licence == NOT_STATED}  # fmt: skip
    if unknown:
        yield f"The licence of {len(unknown)} of the data sources is not stated."


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """``rows``: Markdown already."""
    return "\n".join(markdown_row(line) for line in (header, ["---"] * len(header), *rows))


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
