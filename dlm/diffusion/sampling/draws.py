"""Random numbers of the reverse process, a function of (seed, row, iteration, slot)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlm.diffusion.counter import counter_gumbel, counter_uniform

_TOKEN, _SCORE, _ROUTE, _SET = range(301, 305)


@dataclass(frozen=True)
class DrawKey:
    """What a row draws is a function of; not of the batch, nor of where the row lies in it."""

    seed: int
    """Seed of the generation."""
    row_B: Tensor
    """A number for each row that tells it from the others, int64 [B]."""


@dataclass(frozen=True)
class Draws:
    """The random numbers of one iteration."""

    key: DrawKey
    iteration: int
    number_BN: Tensor
    """Number of each slot in its row, from 0, int64."""

    def token_gumbel(self, vocab_size: int) -> Tensor:
        """Gumbel noise over the tokens of every slot, float32 [B, N, V]."""
        token_V = torch.arange(vocab_size, device=self.number_BN.device)
        iteration, row_B1, number_BN = self._place()
        return counter_gumbel(
            self.key.seed, _TOKEN, iteration, row_B1[..., None], number_BN[..., None], token_V
        )

    def routing_gumbel(self) -> Tensor:
        """Gumbel noise on the position scores, float32 [B, N]."""
        return counter_gumbel(self.key.seed, _ROUTE, *self._place())

    def score(self) -> Tensor:
        """Random position scores, float32 [B, N]."""
        return counter_uniform(self.key.seed, _SCORE, *self._place())

    def setting(self) -> Tensor:
        """Uniform draws that decide which slots are set, float32 [B, N]."""
        return counter_uniform(self.key.seed, _SET, *self._place())

    def of_slots(self, slot_S: Tensor) -> "Draws":
        """Those of some slots of the flattened canvas, each of them a row [S, 1]."""
        row_S = self.key.row_B.index_select(0, slot_S // self.number_BN.shape[1])
        number_S = self.number_BN.flatten().index_select(0, slot_S)
        return Draws(DrawKey(self.key.seed, row_S), self.iteration, number_S[:, None])

    def _place(self) -> tuple[int, Tensor, Tensor]:
        return self.iteration, self.key.row_B[:, None], self.number_BN
