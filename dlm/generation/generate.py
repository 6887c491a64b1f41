"""The one call: prompts in, text out."""

from dlm.data.encoding import encode_prompts
from dlm.errors import UserError
from dlm.generation.autoregressive import generate_autoregressively
from dlm.generation.diffusion import generate_by_diffusion
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import Generation, GenerationSettings


def generate(
    model: GenerativeModel,
    prompts: list[str],
    settings: GenerationSettings,
    *,
    references: list[str] | None = None,
) -> Generation:
    """Answer every prompt; ``references`` only give the lengths of ``length="oracle"``.

    Raises:
        UserError: A prompt is empty or too long for the model, or the lengths are not to be had.
    """
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise UserError(f"prompt {number} of {len(prompts)} is empty: give it some text")
    if not prompts:
        return Generation([], 0)
    prompt_ids = encode_prompts(model.tokenizer, prompts)
    if model.kind == "autoregressive":
        return generate_autoregressively(model, prompt_ids, settings)
    return generate_by_diffusion(model, prompt_ids, references, settings)
