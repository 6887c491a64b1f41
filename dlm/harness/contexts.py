"""Contexts of the harness as prompts: where the space between the two goes, and what fits."""

from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from dlm.data.rows.encoding import encode_prompts, encode_responses
from dlm.errors import UserError
from dlm.generation.model import GenerativeModel
from dlm.tokens.plain_text import plain_text

TooLong = Literal["error", "truncate"]


def as_pair(context: str, continuation: str) -> tuple[str, str]:
    """Prompt and response. The space between them is a causal model's need: here an end token
    stands there, and a response begins with its first word, as in training."""
    return context.rstrip(), continuation.lstrip()


def fitting(
    model: GenerativeModel,
    prompts: Sequence[str],
    behind: Sequence[int],
    places: Sequence[str],
    too_long: TooLong,
) -> tuple[list[str], int]:
    """The prompts, and how many of them lost their beginning.

    Args:
        behind: Tokens that must fit behind each prompt.
        places: What each request is called in a message.

    Raises:
        UserError: A prompt does not fit and ``too_long`` is error, or what is behind it leaves no
            room for a prompt at all.
    """
    fitted, cut = [], 0
    encoded = encode_prompts(model.tokenizer, prompts) if prompts else []
    for prompt, ids, tokens, place in zip(prompts, encoded, behind, places, strict=True):
        most = model.backbone.longest_prompt(tokens)
        if len(ids) <= most:
            fitted.append(prompt)
            continue
        if too_long == "error" or most < 3:
            remedy = (
                "shorten it" if most < 3
                else "--model_args too_long=truncate leaves out the beginning of such contexts"
            )  # fmt: skip
            raise UserError(
                f"{place}: a context of {len(ids)} tokens and {tokens} behind it do not fit "
                f"{model.backbone.room_text}: {remedy}"
            )
        fitted.append(_end_of(model.tokenizer, prompt, most - 2))
        cut += 1
    return fitted, cut


def _end_of(tokenizer: PreTrainedTokenizerBase, text: str, most: int) -> str:
    """The longest end of a text that begins at a token and has at most ``most`` of them."""
    offsets = plain_text(tokenizer).offsets(text)
    for first in range(len(offsets) - most, len(offsets)):
        # Cut off from what was before them, the first letters may be other tokens.
        end = text[offsets[first][0] :].lstrip()
        if len(encode_responses(tokenizer, [end])[0]) <= most:
            return end
    raise UserError(f"the tokenizer cannot cut a text to {most} tokens: shorten it yourself")
