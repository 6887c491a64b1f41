"""Texts joined and cut into blocks, so that a model of 512 positions trains on full rows."""

from collections.abc import Iterable, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from dlm.data.rows.encoding import EncodedRows, encode_responses
from dlm.tokens.special import SpecialTokens


def cut_blocks(
    texts: Iterable[Sequence[int]],
    block: int,
    end: int,
    *,
    carry: Sequence[int] = (),
    first: bool = True,
    last: bool = True,
) -> tuple[list[list[int]], list[int]]:
    """Join texts by ``end`` and cut the tokens into blocks for rows ``begin block end``.

    Args:
        texts: Token ids of each text, without special tokens.
        block: Tokens of a row, its begin and end included.
        end: The token between two texts.
        carry: What an earlier call left.
        first: Whether no text came before these.
        last: Whether none comes after them: then the shorter rest is a block too.

    Returns:
        The blocks without begin and end, and the tokens that are left for the next call.
    """
    stream = list(carry)
    for number, text in enumerate(texts):
        if number or not first:
            stream.append(end)
        stream.extend(text)
    size = block - 2
    whole = len(stream) // size * size
    blocks = [stream[start : start + size] for start in range(0, whole, size)]
    rest = stream[whole:]
    if last and rest:
        return [*blocks, rest], []
    return blocks, rest


def encode_blocks(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], block: int
) -> EncodedRows:
    """The texts of one source in blocks of ``block`` tokens; no block spans two sources."""
    special = SpecialTokens.of(tokenizer)
    rows = [
        [special.begin, *inner, special.end]
        for inner in cut_blocks(encode_responses(tokenizer, texts), block, special.end)[0]
    ]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    flat = np.array([token for row in rows for token in row], dtype=np.int32)
    heads = np.ones(len(rows), dtype=np.int32)
    texts_of_rows = [str(tokenizer.decode(row[1:-1])) for row in rows]
    return EncodedRows(flat, offsets, heads, [""] * len(rows), texts_of_rows)
