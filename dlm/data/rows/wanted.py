"""What decides the rows of a data set, apart from the tokenizer."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dlm.data.examples import ExampleRecipe
from dlm.data.rows.masking import PLAIN, Masking

TooLong = Literal["error", "drop", "truncate_prompt"]


class RowSides(NamedTuple):
    """Tokens of the two sides of rows, special tokens included."""

    prompt: int
    response: int
    """On a canvas with the padding."""


@dataclass(frozen=True)
class RowsWanted:
    """Examples, and how they become rows of tokens."""

    examples: ExampleRecipe
    max_length: int
    too_long: TooLong = "error"
    text_blocks: int | None = None
    """Rows of the task text are joined and cut into blocks of this many tokens; None: a row a
    text."""
    canvas_length: int | None = None
    """Responses with their end token have at most this many tokens, and rows have room for this
    many behind the prompt. (The rows are kept without the padding.)"""
    sides: "RowSides | None" = None
    """Most tokens of prompt and response each, where responses start at one position; None: only
    their sum counts."""
    on_bad_row: str = "error"
    """The policy for rows that cannot be used."""
    masking: Masking = PLAIN
    """What may be predicted. The tokens are the same: it is in no data set's key."""

    @property
    def conditional(self) -> bool:
        """Whether any row has a prompt."""
        return any(source.conditional for source in self.examples.sources)

    def has_prompts(self, source: int) -> bool:
        """Whether the rows of the source of this number have a prompt; texts have none."""
        return self.examples.sources[source].conditional

    def blocks_of(self, source: int) -> int | None:
        """Tokens of the blocks that a source is cut into; None: a row an example."""
        return None if self.has_prompts(source) else self.text_blocks

    def prompt_room(self, response: int) -> int:
        """Tokens that a prompt may have before a response of this many tokens; begin and both ends
        are special tokens."""
        room = self.max_length - max(response + 1, self.canvas_length or 0)
        return min(room, self.sides.prompt if self.sides else room) - 2
