"""The one call: prompts in, text out."""

from dlm.distributed.share import ALONE, Share
from dlm.errors import UserError
from dlm.generation.autoregressive import generate_autoregressively
from dlm.generation.canvas import generate_on_canvas
from dlm.generation.diffusion import generate_by_diffusion
from dlm.generation.drawn_texts import draw_texts
from dlm.generation.generated import Generation
from dlm.generation.lengths import settled
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings


def generate(
    model: GenerativeModel,
    prompts: list[str],
    settings: GenerationSettings,
    *,
    references: list[str] | None = None,
    record: bool = False,
    share: Share = ALONE,
) -> Generation:
    """Answer every prompt; ``references`` only give the lengths of ``length="oracle"``, and
    ``record`` keeps what the canvas of every answer went through.

    The ranks of ``share`` decode whole batches, the same as one process makes: every network call
    is that of one process, and so is every answer, on every rank.

    Raises:
        UserError: A prompt is empty or too long for the model, the lengths are not to be had, or
            a model without a canvas is to be recorded.
    """
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip() and not model.texts:
            raise UserError(f"prompt {number} of {len(prompts)} is empty: give it some text")
    if not prompts:
        return Generation([], 0)
    prompt_ids = model.heads(prompts)
    settings = settled(model, settings)
    if model.kind == "autoregressive":
        if record:
            raise UserError(
                "an autoregressive model has no canvas to trace: use a diffusion model, or leave "
                "the trace out"
            )
        if settings.temperature:
            return draw_texts(model, prompt_ids, settings, share)
        return generate_autoregressively(model, prompt_ids, settings, share)
    if settings.length == "canvas":
        return generate_on_canvas(model, prompt_ids, settings, record=record, share=share)
    return generate_by_diffusion(
        model, prompt_ids, references, settings, record=record, share=share
    )
