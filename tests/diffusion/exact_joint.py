"""A known joint distribution over rows of 4 tokens from 4, and the network that knows it exactly.

B rows, N = 4 positions, V = 5 tokens with the mask, S = 256 sequences.
"""

import itertools

import torch
from torch import Tensor

torch.set_num_threads(1)
VOCAB, LENGTH, MASK_ID = 4, 4, 4
FORBIDDEN_IDS = torch.tensor([MASK_ID])


def _random_joint() -> Tensor:
    """Probabilities [S] in float64, all positive, far from independent tokens."""
    generator = torch.Generator().manual_seed(3)
    weight_S = torch.rand(VOCAB**LENGTH, generator=generator, dtype=torch.float64) ** 4 + 1e-3
    return weight_S / weight_S.sum()


def all_sequences() -> Tensor:
    """Every row of clean tokens [S, N] in lexicographic order, that of ``joint``."""
    return torch.tensor(list(itertools.product(range(VOCAB), repeat=LENGTH)))


joint = _random_joint()
"""Probability of each of ``all_sequences()``, float64 [S]."""
_SEQUENCES_SN = all_sequences()
_ONE_HOT_SNV = torch.nn.functional.one_hot(_SEQUENCES_SN, VOCAB).double()


def log_prob(tokens_BN: Tensor) -> Tensor:
    """Log-probability of clean rows, float64 [B]."""
    place_N = VOCAB ** torch.arange(LENGTH - 1, -1, -1)
    return joint[(tokens_BN * place_N).sum(dim=1)].log()


def predict(tokens_BN: Tensor) -> Tensor:
    """Log p(token at i | the visible tokens at other places), float64 [B, N, V].

    A place that is not masked is predicted from the others too, so that its logits say how
    plausible its token is. The mask token's logit is 0, above all others: whoever does not exclude
    it predicts it.
    """
    fits_BNS = (tokens_BN[:, :, None] == _SEQUENCES_SN.T) | (tokens_BN == MASK_ID)[:, :, None]
    logits_BNV = torch.zeros(*tokens_BN.shape, VOCAB + 1, dtype=torch.float64)
    for place in range(LENGTH):
        others = [other for other in range(LENGTH) if other != place]
        weight_BS = fits_BNS[:, others].all(dim=1) * joint
        p_BV = weight_BS @ _ONE_HOT_SNV[:, place]
        logits_BNV[:, place, :VOCAB] = (p_BV / p_BV.sum(dim=1, keepdim=True)).log()
    return logits_BNV
