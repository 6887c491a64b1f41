"""From causal to bidirectional attention over the first steps of training.

(DiffuLLaMA, arXiv 2410.17891, section 3.2, "attention mask annealing".)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlm.diffusion.counter import counter_uniform

_FUTURE = 202


@dataclass(frozen=True)
class Annealing:
    """The share of later positions that may be seen grows from 0 at step 0 to 1 at ``steps``."""

    steps: int
    """Steps until attention is bidirectional, at least 1."""
    seed: int
    """Seed of the draws."""

    def share(self, step: int) -> float:
        """Share of the upper triangle that is visible in a step (counted from 0)."""
        return min(1.0, step / self.steps)

    def visible(self, step: int, token_index_BL: Tensor) -> Tensor:
        """Which pairs attention may join in this step, bool [B, 1, L (query), L (key)].

        Every pair whose key comes later is drawn anew in every step, as a function of (seed, step,
        query, key) alone: the same in every row and layer, on any device and padding side, and
        after a resume. ``token_index_BL`` counts a row's own tokens from 0.
        """
        length = token_index_BL.shape[1]
        place_L = torch.arange(length, device=token_index_BL.device)
        draw_LL = counter_uniform(self.seed, _FUTURE, step, place_L[:, None], place_L[None, :])
        visible_LL = (place_L[None, :] <= place_L[:, None]) | (draw_LL < self.share(step))
        return visible_LL[token_index_BL[:, :, None], token_index_BL[:, None, :]][:, None]
