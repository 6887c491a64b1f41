"""Tasks of kind generation: prompts are answered, the answers are compared with references."""

from dataclasses import replace
from typing import Any

from dlm.data.rows.round_trip import round_trip
from dlm.distributed.share import ALONE, Share
from dlm.errors import UserError
from dlm.evaluation.answer_scores import EXTRACTED
from dlm.evaluation.extraction.final_number import final_number
from dlm.evaluation.metrics import Sample
from dlm.evaluation.scored import Scored, unknown_figures
from dlm.evaluation.task_rows import TaskRows, refuse_none_left
from dlm.generation.empty import empty_answers, length_ratio
from dlm.generation.generate import generate
from dlm.generation.generated import Generated
from dlm.generation.lengths import longest_prompt, references_beyond, settled
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings
from dlm.tokens.text_form import form_of


def check_generation(model: GenerativeModel, rows: TaskRows, settings: GenerationSettings) -> None:
    """Refuse a system that could not answer, a reference without the number that is asked for, and
    a row that leaves no room for an answer."""
    if "number_match" in rows.task.metrics:
        _refuse_unread_references(rows)
    if model.kind == "diffusion":
        settings.check_parts()
        settings = settled(model, settings)
        if settings.length == "predicted" and model.length_predictor is None:
            raise UserError(
                "it has no length predictor: evaluate a `length` stage's model, or take lengths "
                "from the references (generation.length=oracle; --length oracle)"
            )
    too_long = _too_long(model, rows, settings)
    if not too_long:
        return
    if rows.skip_too_long:
        refuse_none_left(len(too_long), rows, model.backbone.max_length)
        return
    canvas = f" and a canvas of {settings.canvas_length}" if settings.length == "canvas" else ""
    lower = ", or lower generation.canvas_length" if canvas else ""
    index, tokens = next(iter(too_long.items()))
    raise UserError(
        f"row {index + 1}: a prompt of {tokens} tokens{canvas} leaves no room for an answer in "
        f"{model.backbone.room_text}, and so do {len(too_long) - 1} others of "
        f"{len(rows.prompts)}: shorten or remove such rows, or leave them out "
        f"(evaluation.too_long=skip; --skip-too-long){lower}"
    )


def _refuse_unread_references(rows: TaskRows) -> None:
    """Every answer to such a row would be wrong."""
    language = rows.task.languages.references
    for index, reference in enumerate(rows.references):
        for text in (reference, *(rows.others[index] if rows.others else ())):
            if final_number(text, language) is None:
                raise UserError(
                    f"row {index + 1}: number_match finds no sure number in the reference "
                    f"{text[-60:]!r}, so no answer could be right: write it in digits, and "
                    "set `language` (or `reference_language`) of the task where it is not English"
                )


def _too_long(
    model: GenerativeModel, rows: TaskRows, settings: GenerationSettings
) -> dict[int, int]:
    """Index of each row whose prompt leaves no room for an answer -> its tokens."""
    longest = longest_prompt(model, settings)
    lengths = map(len, model.heads(rows.prompts))
    return {index: length for index, length in enumerate(lengths) if length > longest}


def score_generation(
    model: GenerativeModel, rows: TaskRows, settings: GenerationSettings, share: Share = ALONE
) -> Scored:
    """Generate the answers."""
    settings = settled(model, settings)
    skipped = _too_long(model, rows, settings) if rows.skip_too_long else {}
    kept = _in_one_form(model, rows.without(skipped))
    generation = generate(model, kept.prompts, settings, references=kept.references, share=share)
    samples = [_sample(kept, index, answer) for index, answer in enumerate(generation.answers)]
    figures: dict[str, Any] = {"network_calls": generation.network_calls}
    if settings.length == "canvas":
        figures["answers_without_end"] = generation.without_end
    if rows.skip_too_long:
        figures["skipped_rows"] = len(skipped)
    if any("extracted" in sample for sample in samples):
        figures["answers_not_extracted"] = sum(s["extracted"] is None for s in samples)
    back = round_trip(model.tokenizer, kept.references)
    if beyond := references_beyond(model, model.heads(kept.prompts), back.tokens, settings):
        figures["references_cut"] = beyond
    if empty := empty_answers([answer.text for answer in generation.answers]):
        figures["empty_answers"] = empty
    lengths = [answer.length for answer in generation.answers]
    if (ratio := length_ratio(lengths, back.tokens)) is not None:
        figures["length_ratio"] = round(ratio, 4)
    figures |= unknown_figures(model, kept.prompts)
    figures["reachable"] = back.share
    shown = {"generation": {"kind": model.kind, **settings.shown(model.kind)}}
    return Scored(samples, shown, figures=figures, writable=back.written if back.share < 1 else [])


def _in_one_form(model: GenerativeModel, rows: TaskRows) -> TaskRows:
    """The references as texts of the model are written: with blanks at their ends or without."""
    form = form_of(model.tokenizer)
    return replace(
        rows, references=[form.of(text) for text in rows.references],
        others=[tuple(map(form.of, others)) for others in rows.others],
    )  # fmt: skip


def _sample(rows: TaskRows, index: int, answer: Generated) -> Sample:
    reference = rows.references[index]
    sample: Sample = {"source": rows.prompts[index], "reference": reference,
                      "hypothesis": answer.text}  # fmt: skip
    if rows.others and rows.others[index]:
        sample["references"] = [reference, *rows.others[index]]
    if rows.inputs:
        sample["input"] = rows.inputs[index]
    if rows.sources and rows.sources[index] not in ("", sample["source"]):
        sample["source_text"] = rows.sources[index]
    if rows.task.language:
        sample["language"] = rows.task.language
    if rows.task.reference_language:
        sample["reference_language"] = rows.task.reference_language
    if rows.clusters:
        sample["cluster"] = rows.clusters[index]
    extracts = [EXTRACTED[metric] for metric in rows.task.metrics if metric in EXTRACTED]
    if extracts:
        sample["extracted"] = extracts[0](answer.text, reference, rows.task.languages)
    return {**sample, "length": answer.length, "score": round(answer.score, 6)}
