"""Classifier-free guidance (arXiv 2207.12598; for masked diffusion LLaDA, arXiv 2502.09992)."""

import torch
from torch import Tensor

from dlm.diffusion.sampling.network import SlotNetwork, Wanted


class Guided(SlotNetwork):
    """Logits u + (weight + 1)(c - u): c with the prompt, u with the prompt masked.

    Two network calls for one. Weight 0 is c alone.
    """

    def __init__(self, conditional: SlotNetwork, unconditional: SlotNetwork, weight: float) -> None:
        self.conditional, self.unconditional, self.weight = conditional, unconditional, weight
        self.vocab_size, self.repeats = conditional.vocab_size, conditional.repeats

    def states(self, tokens_BN: Tensor, wanted: Wanted) -> Tensor:
        """Those of both, [S, 2, H]."""
        both = [net.states(tokens_BN, wanted) for net in (self.conditional, self.unconditional)]
        return torch.stack(both, dim=1)

    def logits(self, states: Tensor) -> Tensor:
        """The two, weighted."""
        c_SV, u_SV = (
            net.logits(states[:, part]).float()
            for part, net in enumerate((self.conditional, self.unconditional))
        )
        return u_SV + (self.weight + 1) * (c_SV - u_SV)
