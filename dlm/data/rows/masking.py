"""Which tokens of a row belong to its response, and which of them noise may hit.

A pair is  begin prompt end response end , a text is  begin text end : what stands before the
response has at least two tokens in a pair and one in a text, which tells them apart.

Noise may hit a text, a response and the end token of a response (as generation ends responses). It
never hits the begin token or the end token of a prompt. Stages may ask for more, see ``Masking``.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.int32]


class Masking(NamedTuple):
    """What else may be predicted."""

    prompts: bool = False
    """A pair's prompt too (translation language modelling, arXiv 1901.07291, section 3.3)."""
    text_ends: bool = False
    """A text's end token too, as the twin has to learn where texts end."""


PLAIN = Masking()
"""Texts and responses alone."""


class RowMasks(NamedTuple):
    """Positions of some rows, bool [B, L]."""

    maskable_BL: npt.NDArray[np.bool_]
    """Positions that noise may hit."""
    response_BL: npt.NDArray[np.bool_]
    """The response and its end token (on a canvas with the padding); nothing in a text."""


def has_prompt(prompt_lengths: Numbers) -> npt.NDArray[np.bool_]:
    """Which rows are pairs, bool in the same shape."""
    return prompt_lengths > 1


def maskable_counts(
    lengths: Numbers, prompt_lengths: Numbers, masking: Masking = PLAIN
) -> npt.NDArray[np.int64]:
    """How many tokens noise may hit in each row; the row sums of :func:`row_masks`.

    Args:
        lengths: Tokens of each row.
        prompt_lengths: Tokens before each row's response or text, special tokens included.
        masking: What else may be predicted.
    """
    counts = (lengths - prompt_lengths).astype(np.int64)
    if not masking.text_ends:
        counts -= ~has_prompt(prompt_lengths)
    return counts + np.maximum(prompt_lengths - 2, 0) if masking.prompts else counts


def row_masks(
    lengths: Numbers, prompt_lengths: Numbers, width: int, masking: Masking = PLAIN
) -> RowMasks:
    """The masks of rows that are padded on the right to ``width``; arguments as above."""
    column_L = np.arange(width)
    length_B1, first_B1 = lengths[:, None], prompt_lengths[:, None]
    pair_B1 = has_prompt(first_B1)
    response_BL = (column_L >= first_B1) & (column_L < length_B1) & pair_B1
    # Behind the begin token, up to the end token of the text or of the prompt.
    prompt_stop_B1 = first_B1 - 1 if masking.prompts else np.zeros_like(first_B1)
    stop_B1 = np.where(pair_B1, prompt_stop_B1, length_B1 - (not masking.text_ends))
    return RowMasks(response_BL | ((column_L >= 1) & (column_L < stop_B1)), response_BL)
