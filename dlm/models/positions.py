"""Which position every token of a row has: where the response stands, seen from its prompt."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor
from transformers import PretrainedConfig

from dlm.errors import UserError
from dlm.models.families import FAMILIES, is_causal

ResponseLayout = Literal["continued", "fixed"]

_MULTIPLE = 32


@dataclass(frozen=True)
class ResponsePositions:
    """Where the positions of responses begin, and whether responses have a token type.

    Masked tokens look alike, and only their positions tell them apart. Behind prompts of different
    lengths, token i of a response has no fixed relation to any token of the prompt; from a fixed
    start on it has.
    """

    start: int | None = None
    """The position of every response's first token, counted from the row's first token; None: the
    one behind the prompt."""
    token_type: bool = False
    """Whether response tokens have the second token type of the network (BERT's segment B)."""

    @property
    def layout(self) -> ResponseLayout:
        """What the setting ``model.response_positions`` calls it."""
        return "continued" if self.start is None else "fixed"

    def __str__(self) -> str:
        where = "behind the prompt" if self.start is None else f"fixed, from position {self.start}"
        return where + (", token type 1" if self.token_type else "")

    def as_json(self) -> dict[str, Any]:
        """As it stands in an export's description."""
        return {"layout": self.layout, "start": self.start, "token_type": self.token_type}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Read back what :meth:`as_json` wrote."""
        return cls(values["start"], values["token_type"])

    def places(
        self, token_index_BL: Tensor, valid_BL: Tensor, response_BL: Tensor | None
    ) -> "TokenPlaces":
        """Where each token stands.

        Args:
            token_index_BL: number of each token in its row, from 0.
            valid_BL: False on padding.
            response_BL: the response, which ends its row; None: there is none.
        """
        if response_BL is None:
            return TokenPlaces(token_index_BL)
        position_BL = token_index_BL
        if self.start is not None:
            prompt_B = (valid_BL & ~response_BL).sum(dim=1)
            position_BL = token_index_BL + response_BL * (self.start - prompt_B)[:, None]
        return TokenPlaces(position_BL, response_BL.long() if self.token_type else None)

    def behind(self, prompt_B: Tensor, number_B: Tensor) -> "TokenPlaces":
        """The same of one response token of each row.

        Args:
            prompt_B: tokens of the row's prompt, int64 [B].
            number_B: the token's number in its response, from 0, int64 [B].
        """
        first_B = prompt_B if self.start is None else torch.full_like(prompt_B, self.start)
        return TokenPlaces(
            first_B + number_B, torch.ones_like(number_B) if self.token_type else None
        )

    def room(self, positions: int, prompt: int) -> int:
        """Most tokens of a response, its end included, behind a prompt of this many tokens in a
        network of this many positions; below 1 where there is no room."""
        if self.start is None:
            return positions - prompt
        return positions - self.start if prompt <= self.start else 0

    def longest_prompt(self, positions: int, response: int) -> int:
        """Most tokens of a prompt before a response of this many, its end included; below 1 where
        there is no room."""
        if self.start is None:
            return positions - response
        return self.start if response <= positions - self.start else 0


CONTINUED = ResponsePositions()
"""Responses follow their prompts."""


class TokenPlaces(NamedTuple):
    """What a network is told of where each token stands."""

    position_BL: Tensor
    """Its position, int64, counted from 0 in every family."""
    type_BL: Tensor | None = None
    """Its token type, int64; None: the first one everywhere."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "TokenPlaces":
        """The same of other tokens (of packed rows, say)."""
        types = self.type_BL
        return TokenPlaces(function(self.position_BL), None if types is None else function(types))


def fixed_start(longest_prompt: int, longest_response: int, positions: int) -> int:
    """The smallest start that no prompt exceeds, rounded up where the longest response leaves room.

    Args:
        longest_prompt: tokens, begin and end included.
        longest_response: tokens, the end included.
        positions: of the network.

    Raises:
        UserError: The longest prompt and response do not fit.
    """
    if longest_prompt + longest_response > positions:
        raise UserError(
            f"model.response_positions=fixed: the longest prompt has {longest_prompt} tokens and "
            f"the longest response {longest_response}, which from one start on need "
            f"{longest_prompt + longest_response} positions where the model has {positions}: "
            "set it to continued, or leave long rows out (model.response_start, data.too_long=drop)"
        )
    rounded = -(-longest_prompt // _MULTIPLE) * _MULTIPLE
    return min(rounded, positions - longest_response)


def has_token_types(config: PretrainedConfig) -> bool:
    """Whether a network has a token type for responses."""
    return int(getattr(config, "type_vocab_size", None) or 0) > 1


def counts_from_pad(config: PretrainedConfig) -> bool:
    """Whether position ids begin behind the padding token's id, which itself is not counted."""
    family = FAMILIES.get(config.model_type)
    return family is not None and family.counts_from_pad


def position_offset(config: PretrainedConfig) -> int:
    """The position id of a row's first token."""
    return (config.pad_token_id or 0) + 1 if counts_from_pad(config) else 0


def positions(config: PretrainedConfig) -> int:
    """Longest sequence in tokens that a network can read.

    Of a causal network whose layers see a window alone (Mistral), no more than the window: within
    it, seeing all that came before is what the network was trained with.
    """
    most = int(config.max_position_embeddings) - position_offset(config)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    narrow = kinds is None or "sliding_attention" in kinds
    causal = is_causal(config.model_type)
    return min(most, int(window)) if window and narrow and causal else most
