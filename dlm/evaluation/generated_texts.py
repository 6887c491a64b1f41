"""Tasks of kind generation: prompts are answered, the answers are compared with references."""

from dlm.data.encoding import encode_prompts
from dlm.errors import UserError
from dlm.evaluation.scored import Scored
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
    longest = longest_prompt(model, settings)
    canvas = f" and a canvas of {settings.canvas_length}" if settings.length == "canvas" else ""
    lower = ", or lower generation.canvas_length" if canvas else ""
    for number, ids in enumerate(encode_prompts(model.tokenizer, rows.prompts), start=1):
        if len(ids) > longest:
            raise UserError(
                f"row {number}: a prompt of {len(ids)} tokens{canvas} leaves no room for an answer "
                f"in the model's {model.backbone.max_length} positions: shorten or remove the row"
                f"{lower}"
            )


def score_generation(
    model: GenerativeModel, rows: TaskRows, settings: GenerationSettings
) -> Scored:
    """Generate the answers."""
    settings = settled(model, settings)
    generation = generate(model, rows.prompts, settings, references=rows.references)
    unended = {"answers_without_end": generation.without_end} if settings.length == "canvas" else {}
    samples = [
        {"source": prompt, "reference": reference, "hypothesis": answer.text,
         "length": answer.length, "score": round(answer.score, 6)}
        for prompt, reference, answer in zip(
            rows.prompts, rows.references, generation.answers, strict=True
        )
    ]  # fmt: skip
    return Scored(
        samples,
        {"generation": {"kind": model.kind, **settings.shown(model.kind)}},
        figures={"network_calls": generation.network_calls, **unended},
    )
