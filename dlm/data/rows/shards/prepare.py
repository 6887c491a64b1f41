"""Tokenize a data set once, from a stream of examples into shards; neither is held in memory."""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dlm.data.rows.blocks import cut_blocks
from dlm.data.rows.encoding import misfit_text, no_row_left
from dlm.data.rows.shards.encoder import Ids, RowEncoder
from dlm.data.rows.shards.format import (
    SHARD_TOKENS,
    VERSION,
    DamagedShards,
    Reached,
    read_bad_rows,
    write_bad_rows,
)
from dlm.data.rows.shards.place import only_one, shard_directory
from dlm.data.rows.shards.portions import Portion, encoded_portions, portions
from dlm.data.rows.shards.reading import TokenShards
from dlm.data.rows.shards.writer import ShardWriter
from dlm.data.rows.wanted import RowsWanted
from dlm.data.sources import BadRows
from dlm.errors import UserError

Say = Callable[[str], None]
PROGRESS_S = 10.0
"""Seconds between two lines of progress."""


def token_shards(
    wanted: RowsWanted,
    tokenizer: PreTrainedTokenizerBase,
    *,
    cache: Path | None = None,
    say: Say = print,
    shard_tokens: int = SHARD_TOKENS,
    bad_rows: BadRows | None = None,
) -> TokenShards:
    """The prepared rows: opened where they are in the cache, else made there.

    Of several processes that want the same rows one makes them. What a killed process finished is
    used; what is damaged is made again.

    Raises:
        UserError: A source cannot be read, a row does not fit, the cache cannot be written.
        StageFailed: The disk is full.
    """
    encoder = RowEncoder(tokenizer)
    key = shard_key(wanted, encoder)
    directory = shard_directory(cache, key)
    bad_rows = bad_rows or BadRows("error")
    shards = _whole(directory, wanted)
    if shards is None:
        with only_one(directory, say):
            shards = _whole(directory, wanted, say)
            if shards is None:
                return _prepare(wanted, encoder, directory, say, shard_tokens, bad_rows)
    for place, reason in read_bad_rows(directory):
        bad_rows.bad(place, reason)
    bad_rows.finish()
    for source in (each.source for each in wanted.examples.sources):
        if source.hub is not None and source.revision is None:
            say(f"{source.place}: rows as prepared earlier in {directory}; the recipe pins no "
                "`revision`, so delete this directory if the hub's rows have changed")  # fmt: skip
    return shards


def _whole(directory: Path, wanted: RowsWanted, say: Say | None = None) -> TokenShards | None:
    """The finished data set; a damaged one is removed, and said so, where ``say`` is given."""
    try:
        return TokenShards.open(directory, masking=wanted.masking)
    except DamagedShards as damaged:
        if say is not None:
            say(f"prepared data is made again: {damaged}")
            shutil.rmtree(directory)
        return None


def _prepare(
    wanted: RowsWanted,
    encoder: RowEncoder,
    directory: Path,
    say: Say,
    shard_tokens: int,
    bad_rows: BadRows,
) -> TokenShards:
    started = time.monotonic()
    writer = ShardWriter(directory, shard_tokens=shard_tokens)
    if writer.rows:
        say(f"{writer.rows:,} rows were tokenized by an earlier process; going on behind them")
    counts: Counter[str] = Counter()
    try:
        _write_all(writer, wanted, encoder, say, counts, bad_rows)
        if shard_key(wanted, encoder) != directory.name:
            raise UserError(
                f"{wanted.examples.place}: a file changed while it was read: start again when it "
                "is whole"
            )
    except UserError:
        # What corrects a local source gives another key: nothing would use these shards. A hub
        # that cannot be reached may be there again later.
        if not any(each.source.hub for each in wanted.examples.sources):
            shutil.rmtree(directory, ignore_errors=True)
        raise
    write_bad_rows(directory, bad_rows.rows)
    index = writer.finish(directory.name, dict(counts))
    say(
        f"{index.rows:,} rows ({index.tokens:,} tokens) tokenized into {directory} in "
        f"{time.monotonic() - started:.1f} s"
    )
    return TokenShards(directory, index, masking=wanted.masking)


def _write_all(
    writer: ShardWriter,
    wanted: RowsWanted,
    encoder: RowEncoder,
    say: Say,
    counts: Counter[str],
    bad_rows: BadRows,
) -> None:
    before, started = writer.rows, time.monotonic()
    spoken = started
    read = portions(wanted, writer.reached, counts, bad_rows)
    for portion, encoded in encoded_portions(read, wanted, encoder):
        _add(writer, wanted, encoder, portion, encoded)
        now = time.monotonic()
        if now - spoken >= PROGRESS_S:
            speed = (writer.rows - before) / (now - started)
            say(f"tokenizing: {writer.rows:,} rows ({writer.tokens:,} tokens), {speed:,.0f} rows/s")
            spoken = now
    bad_rows.finish()
    if not writer.rows:
        raise UserError(
            f"{wanted.examples.place}: {no_row_left(wanted.max_length, wanted.canvas_length)}"
        )


def _add(
    writer: ShardWriter,
    wanted: RowsWanted,
    encoder: RowEncoder,
    portion: Portion,
    encoded: list[Any],
) -> None:
    """Put rows together from a portion's tokens, and hand them to the writer."""
    reached = writer.reached
    prompts, responses = encoder.ids(encoded, len(portion.examples))
    if wanted.too_long == "truncate_prompt" and prompts:
        prompts, cut = _cut(prompts, responses, wanted, encoder, portion)
        reached = replace(reached, cut_prompts=reached.cut_prompts + cut)
    block = wanted.blocks_of(portion.source)
    if block is None:
        rows, dropped = _short_enough(encoder.rows(prompts, responses), wanted, portion)
        reached = replace(reached, dropped=reached.dropped + dropped)
    else:
        blocks, rest = cut_blocks(
            responses, block, encoder.special.end, carry=reached.carry,
            first=not reached.examples, last=portion.ends,
        )  # fmt: skip
        rows = encoder.rows([], list(blocks))
        reached = replace(reached, carry=tuple(rest))
    lengths = np.array([sum(map(len, row)) for row in rows], dtype=np.int64)
    heads = np.array([sum(map(len, row[:-2])) for row in rows], dtype=np.int32)
    flat = encoder.flat(rows, int(lengths.sum()))
    if encoder.unknown is not None:
        unknown = int((flat == encoder.unknown).sum())
        reached = replace(reached, unknown_tokens=reached.unknown_tokens + unknown)
    writer.add(flat, lengths, heads, _behind(reached, portion, len(rows)))


def _cut(
    prompts: list[Ids],
    responses: list[Ids],
    wanted: RowsWanted,
    encoder: RowEncoder,
    portion: Portion,
) -> tuple[list[Ids], int]:
    """The prompts, those cut that leave their response no room, and how many were."""
    kept, cut = list(prompts), 0
    for place, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        room = wanted.prompt_room(len(response))
        if len(prompt) > room > 0:
            kept[place] = encoder.end_of(portion.examples[place].prompt, room)
            cut += 1
    return kept, cut


def _short_enough(
    rows: list[list[Ids]], wanted: RowsWanted, portion: Portion
) -> tuple[list[list[Ids]], int]:
    """The rows that fit, and how many do not."""
    kept = [row for row in rows if _fits(row, wanted)]
    if len(kept) < len(rows) and wanted.too_long == "error":
        example, row = next(
            pair for pair in zip(portion.examples, rows, strict=True) if not _fits(pair[1], wanted)
        )
        response, length = _sizes(row, wanted)
        more = (
            "the rows behind it are not looked at (`dlm data stats` with data.too_long=drop counts "
            "them). Shorten or remove such rows"
        )
        text = misfit_text(
            length, response, wanted.max_length, wanted.canvas_length, example.response, more=more
        )
        raise UserError(f"{example.place}: {text}")
    return kept, len(rows) - len(kept)


def _fits(row: list[Ids], wanted: RowsWanted) -> bool:
    response, length = _sizes(row, wanted)
    is_text = len(row) == 3  # begin text end
    canvas, sides = wanted.canvas_length or 0, None if is_text else wanted.sides
    if length > wanted.max_length or response > (canvas or response):
        return False
    behind = max(response, canvas)
    return sides is None or (length - behind <= sides.prompt and behind <= sides.response)


def _sizes(row: list[Ids], wanted: RowsWanted) -> tuple[int, int]:
    """Tokens of a row's response with its end, and of the whole row with its canvas."""
    response = sum(map(len, row[-2:]))
    return response, sum(map(len, row[:-2])) + max(response, wanted.canvas_length or 0)


def _behind(reached: Reached, portion: Portion, rows: int) -> Reached:
    """What is reached when the portion is done."""
    *earlier, current = (*reached.source_rows, 0)[: portion.source + 1]
    return replace(
        reached,
        source=portion.source + portion.ends,
        examples=0 if portion.ends else reached.examples + len(portion.examples),
        source_rows=(*earlier, current + rows),
    )


def shard_key(wanted: RowsWanted, encoder: RowEncoder) -> str:
    """The content key of a data set, 32 hexadecimal digits of a sha256."""
    content = {
        "version": VERSION,
        "examples": wanted.examples.identity(),
        "encoder": encoder.identity,
        "conditional": wanted.conditional,
        "max_length": wanted.max_length,
        "too_long": wanted.too_long,
        "text_blocks": wanted.text_blocks,
        "canvas_length": wanted.canvas_length,
        "on_bad_row": wanted.on_bad_row,
    }
    if wanted.sides is not None:
        content["sides"] = list(wanted.sides)
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
