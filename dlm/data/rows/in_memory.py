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
from dlm.data.sources import BadRows


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
    examples = [example for _, example in numbered]
    if wanted.too_long == "truncate_prompt" and wanted.conditional:
        examples = _cut(examples, wanted, tokenizer, counts)
    if wanted.text_blocks is None:
        rows = encode_rows(
            tokenizer, [e.prompt for e in examples], [e.response for e in examples],
            conditional=wanted.conditional, canvas_length=wanted.canvas_length,
            count_padding=count_padding,
        )  # fmt: skip
    else:
        sources = groupby(numbered, key=itemgetter(0))
        texts = [[example.response for _, example in group] for _, group in sources]
        rows = encode_blocks(tokenizer, texts, wanted.text_blocks)
    # A row whose response alone is too long cannot be saved by cutting its prompt.
    rows, dropped = limit_length(
        rows, wanted.max_length, drop=wanted.too_long != "error", place=wanted.examples.place,
        where=lambda index: str(examples[index].place), canvas_length=wanted.canvas_length,
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
