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
    """The random numbers of one iteration.

    Whatever draws needs a key: without one the first draw raises ValueError, whoever asks for it,
    a sampler known here or a rule that was added.
    """

    key: DrawKey | None
    iteration: int
    number_BN: Tensor
    """Number of each slot in its row, from 0, int64."""

    def token_gumbel(self, vocab_size: int) -> Tensor:
        """Gumbel noise over the tokens of every slot, float32 [B, N, V]."""
        token_V = torch.arange(vocab_size, device=self.number_BN.device)
        key = self._needed()
        return counter_gumbel(
            key.seed, _TOKEN, self.iteration, key.row_B[:, None, None], self.number_BN[..., None],
            token_V,
        )  # fmt: skip

    def routing_gumbel(self) -> Tensor:
        """Gumbel noise on the position scores, float32 [B, N]."""
        return counter_gumbel(*self._place(_ROUTE))

    def score(self) -> Tensor:
        """Random position scores, float32 [B, N]."""
        return counter_uniform(*self._place(_SCORE))

    def setting(self) -> Tensor:
        """Uniform draws that decide which slots are set, float32 [B, N]."""
        return counter_uniform(*self._place(_SET))

    def of_slots(self, slot_S: Tensor) -> "Draws":
        """Those of some slots of the flattened canvas, each of them a row [S, 1]."""
        number_S1 = self.number_BN.flatten().index_select(0, slot_S)[:, None]
        if self.key is None:
            return Draws(None, self.iteration, number_S1)
        row_S = self.key.row_B.index_select(0, slot_S // self.number_BN.shape[1])
        return Draws(DrawKey(self.key.seed, row_S), self.iteration, number_S1)

    def of_rows(self, part: slice) -> "Draws":
        """Those of some rows."""
        key = self.key and DrawKey(self.key.seed, self.key.row_B[part])
        return Draws(key, self.iteration, self.number_BN[part])

    def _place(self, stream: int) -> tuple[int, int, int, Tensor, Tensor]:
        key = self._needed()
        return key.seed, stream, self.iteration, key.row_B[:, None], self.number_BN

    def _needed(self) -> DrawKey:
        if self.key is None:
            raise ValueError("this sampler draws at random: give it a seed")
        return self.key
