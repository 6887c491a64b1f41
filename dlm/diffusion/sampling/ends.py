"""The end token held back: barred from the first slots of a row, or made less likely anywhere."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeldBack:
    """What is done to the logit of the end token, before anything is read off the logits."""

    token_id: int
    """The end token."""
    min_length: int = 0
    """Slots of a row, from its first one on, that cannot take it."""
    penalty: float = 0.0
    """Subtracted from its logit."""

    @classmethod
    def of(cls, token_id: int | None, min_length: int, penalty: float) -> "HeldBack | None":
        """None where nothing is held back, and logits are read as they are.

        Raises:
            ValueError: There is no end token to hold back.
        """
        if not min_length and not penalty:
            return None
        if token_id is None:
            raise ValueError(
                "min_length and end_penalty are read where answers end themselves (length=canvas): "
                "remove them"
            )
        return cls(token_id, min_length, penalty)

    def applied(self, logits_SV: Tensor, number_S: Tensor) -> Tensor:
        """The logits [S, V] of slots with these numbers in their rows, from 0, in float32."""
        logits_SV = logits_SV.float().clone()
        end_S = logits_SV[:, self.token_id] - self.penalty
        logits_SV[:, self.token_id] = end_S.masked_fill(number_S < self.min_length, -torch.inf)
        return logits_SV
