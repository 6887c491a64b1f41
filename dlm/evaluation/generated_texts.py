"""Tasks of kind generation: prompts are answered, the answers are compared with references."""

from dlm.data.encoding import encode_prompts
from dlm.errors import UserError
from dlm.evaluation.scored import Scored
from dlm.evaluation.task_rows import TaskRows
from dlm.generation.generate import generate
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings


def check_generation(model: GenerativeModel, rows: TaskRows, settings: GenerationSettings) -> None:
    """Refuse a system that could not answer, and a row that leaves no room for an answer."""
    if model.kind == "diffusion":
        try:
            settings.parts()
        except ValueError as error:
            raise UserError(str(error)) from error
        if settings.length == "predicted" and model.length_predictor is None:
            raise UserError(
                "it has no length predictor: evaluate a `length` stage's model, or take lengths "
                "from the references (generation.length=oracle; --length oracle)"
            )
    longest = model.backbone.max_length - 2  # one token of the answer, and its end
    for number, ids in enumerate(encode_prompts(model.tokenizer, rows.prompts), start=1):
        if len(ids) > longest:
            raise UserError(
                f"row {number}: a prompt of {len(ids)} tokens leaves no room for an answer in the "
                f"model's {model.backbone.max_length} positions: shorten or remove the row"
            )


def score_generation(
    model: GenerativeModel, rows: TaskRows, settings: GenerationSettings
) -> Scored:
    """Generate the answers."""
    generation = generate(model, rows.prompts, settings, references=rows.references)
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
        figures={"network_calls": generation.network_calls},
    )
