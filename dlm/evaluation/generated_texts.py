"""Tasks of kind generation: prompts are answered, the answers are compared with references."""

from dlm.data.rows.encoding import encode_prompts
from dlm.distributed.share import ALONE, Share
from dlm.errors import UserError
from dlm.evaluation.scored import Scored, unknown_figures
from dlm.evaluation.task_rows import TaskRows
from dlm.generation.generate import generate
from dlm.generation.lengths import longest_prompt, settled
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings


def check_generation(model: GenerativeModel, rows: TaskRows, settings: GenerationSettings) -> None:
    """Refuse a system that could not answer, and a row that leaves no room for an answer."""
    if model.kind == "diffusion":
        try:
            settings.parts()
        except ValueError as error:
            raise UserError(str(error)) from error
        settings = settled(model, settings)
        if settings.length == "predicted" and model.length_predictor is None:
            raise UserError(
                "it has no length predictor: evaluate a `length` stage's model, or take lengths "
                "from the references (generation.length=oracle; --length oracle)"
            )
    too_long = _too_long(model, rows, settings)
    if not too_long or (rows.skip_too_long and len(too_long) < len(rows.prompts)):
        return
    canvas = f" and a canvas of {settings.canvas_length}" if settings.length == "canvas" else ""
    lower = ", or lower generation.canvas_length" if canvas else ""
    index, tokens = next(iter(too_long.items()))
    raise UserError(
        f"row {index + 1}: a prompt of {tokens} tokens{canvas} leaves no room for an answer in the "
        f"model's {model.backbone.max_length} positions, and so do {len(too_long) - 1} others of "
        f"{len(rows.prompts)}: shorten or remove such rows, or leave them out "
        f"(evaluation.too_long=skip; --skip-too-long){lower}"
    )


def _too_long(
    model: GenerativeModel, rows: TaskRows, settings: GenerationSettings
) -> dict[int, int]:
    """Index of each row whose prompt leaves no room for an answer -> its tokens."""
    longest = longest_prompt(model, settings)
    lengths = map(len, encode_prompts(model.tokenizer, rows.prompts))
    return {index: length for index, length in enumerate(lengths) if length > longest}


def score_generation(
    model: GenerativeModel, rows: TaskRows, settings: GenerationSettings, share: Share = ALONE
) -> Scored:
    """Generate the answers."""
    settings = settled(model, settings)
    skipped = _too_long(model, rows, settings) if rows.skip_too_long else {}
    kept = [index for index in range(len(rows.prompts)) if index not in skipped]
    prompts, references = (
        [texts[index] for index in kept] for texts in (rows.prompts, rows.references)
    )
    generation = generate(model, prompts, settings, references=references, share=share)
    unended = {"answers_without_end": generation.without_end} if settings.length == "canvas" else {}
    samples = [
        {"source": prompt, "reference": reference, "hypothesis": answer.text,
         "length": answer.length, "score": round(answer.score, 6)}
        for prompt, reference, answer in zip(
            prompts, references, generation.answers, strict=True
        )
    ]  # fmt: skip
    return Scored(
        samples,
        {"generation": {"kind": model.kind, **settings.shown(model.kind)}},
        figures={
            "network_calls": generation.network_calls,
            **unended,
            **({"skipped_rows": len(skipped)} if rows.skip_too_long else {}),
            **unknown_figures(model, prompts),
        },
    )
