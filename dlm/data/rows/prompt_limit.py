"""Prompts that are too long, cut to the room that there is."""

from transformers import PreTrainedTokenizerBase

from dlm.errors import UserError
from dlm.tokens.plain_text import plain_text


def cut_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, tokens: int) -> str:
    """The end of the prompt, at most ``tokens`` long; "" where there is no room at all.

    The beginning is what is cut, at a token's edge: a question stands at the end, after its
    context or its demonstrations. What is left is text, so the same prompt can be given again.

    Raises:
        UserError: The tokenizer does not say where its tokens are in the text.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "data.too_long=truncate_prompt needs a fast tokenizer, which says where its tokens "
            "are in the text: set data.too_long=drop"
        )
    room = tokens
    while room > 0:
        offsets = plain_text(tokenizer).offsets(prompt)
        if len(offsets) <= tokens:
            return prompt
        # A text that begins elsewhere may be split otherwise: cut again, and more, until it fits.
        prompt, room = prompt[offsets[-room][0] :].lstrip(), room - 1
    return ""
