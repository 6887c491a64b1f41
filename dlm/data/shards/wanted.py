"""What decides the rows of a data set, and the key that names it."""

import hashlib
import json
from dataclasses import asdict, dataclass

from dlm.data.prompts import Template
from dlm.data.shards.encoder import RowEncoder
from dlm.data.shards.format import VERSION
from dlm.data.sources import Source, source_identity


@dataclass(frozen=True)
class RowsWanted:
    """What decides the rows of a data set, apart from the tokenizer."""

    sources: list[Source]
    template: Template
    conditional: bool
    max_length: int
    drop_too_long: bool
    text_blocks: int | None = None
    """Texts are joined and cut into blocks of so many tokens; None: a row a text."""

    canvas_length: int | None = None
    """Responses with their end token have at most so many tokens, and rows have room for so many
    behind the prompt. (The rows are kept without the padding.)"""

    @property
    def places(self) -> str:
        """Where the rows come from, for messages."""
        return ", ".join(source.place for source in self.sources)


def shard_key(wanted: RowsWanted, encoder: RowEncoder) -> str:
    """The content key of a data set, 32 hexadecimal digits of a sha256."""
    content = {
        "version": VERSION,
        "sources": [source_identity(source) for source in wanted.sources],
        "template": asdict(wanted.template),
        "encoder": encoder.identity,
        "conditional": wanted.conditional,
        "max_length": wanted.max_length,
        "too_long": "drop" if wanted.drop_too_long else "error",
        "text_blocks": wanted.text_blocks,
        "canvas_length": wanted.canvas_length,
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
