"""The key that names a prepared data set: all that decides its rows."""

import hashlib
import json

from dlm.data.rows.shards.encoder import RowEncoder
from dlm.data.rows.shards.format import VERSION
from dlm.data.rows.wanted import RowsWanted


def shard_key(wanted: RowsWanted, encoder: RowEncoder) -> str:
    """The content key of a data set, 32 hexadecimal digits of a sha256."""
    content = {
        "version": VERSION,
        "ends": "kept",  # of texts: their blanks and line ends
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
