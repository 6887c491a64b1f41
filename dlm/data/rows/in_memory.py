"""Rows tokenized at once and held in memory with their texts: validation sets."""

from collections import Counter
from itertools import groupby
from operator import itemgetter

from transformers import PreTrainedTokenizerBase

from dlm.data.prompts import Example
from dlm.data.rows.blocks import encode_blocks
from dlm.data.rows.encoding import EncodedRows, encode_responses, encode_rows, limit_length
from dlm.data.rows.prompt_limit import cut_prompt
from dlm.data.rows.wanted import RowsWanted
from dlm.data.sources import BadRows, Place
from dlm.errors import UserError
from dlm.tokens.plain_text import SpelledToken


def rows_in_memory(
    wanted: RowsWanted,
    tokenizer: PreTrainedTokenizerBase,
    *,
    counts: Counter[str],
    bad_rows: BadRows,
    count_padding: bool = True,
) -> EncodedRows:
    """The rows of all sources, one after the other; ``counts`` gets what was left out and cut.

    Raises:
        UserError: A source cannot be read, or a row does not fit.
    """
    numbered = list(wanted.examples.stream(counts, bad_rows=bad_rows))
    bad_rows.finish()
    parts: list[EncodedRows] = []
    places: list[Place | None] = []
    for source, group in groupby(numbered, key=itemgetter(0)):
        examples = [example for _, example in group]
        block, conditional = wanted.blocks_of(source), wanted.has_prompts(source)
        try:
            if block is not None:
                texts = [example.response for example in examples]
                parts.append(encode_blocks(tokenizer, texts, block))
                places += [None] * len(parts[-1])  # no block is too long
                continue
            if wanted.too_long == "truncate_prompt" and conditional:
                examples = _cut(examples, wanted, tokenizer, counts)
            parts.append(encode_rows(
                tokenizer, [e.prompt for e in examples], [e.response for e in examples],
                conditional=conditional, canvas_length=wanted.canvas_length,
                count_padding=count_padding,
            ))  # fmt: skip
        except SpelledToken as error:
            raise UserError(f"{examples[error.index].place}: {error}") from error
        places += [example.place for example in examples]
    rows = EncodedRows.joined(parts, masking=wanted.masking)
    # A row whose response alone is too long cannot be saved by cutting its prompt.
    rows, dropped = limit_length(
        rows, wanted.max_length, drop=wanted.too_long != "error", place=wanted.examples.place,
        where=lambda index: str(places[index]), canvas_length=wanted.canvas_length,
        sides=wanted.sides,
    )  # fmt: skip
    counts["dropped_rows"] += dropped
    return rows


def _cut(
    examples: list[Example],
    wanted: RowsWanted,
    tokenizer: PreTrainedTokenizerBase,
    counts: Counter[str],
) -> list[Example]:
    """Every prompt cut to the room that its response leaves."""
    prompts = encode_responses(tokenizer, [example.prompt for example in examples])
    responses = encode_responses(tokenizer, [example.response for example in examples])
    result = []
    for example, prompt, response in zip(examples, prompts, responses, strict=True):
        room = wanted.prompt_room(len(response))
        if len(prompt) > room > 0:
            counts["cut_prompts"] += 1
            example = example._replace(prompt=cut_prompt(tokenizer, example.prompt, room))
        result.append(example)
    return result
