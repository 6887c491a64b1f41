"""Classifier-free guidance (arXiv 2207.12598; for masked diffusion LLaDA, arXiv 2502.09992)."""

from torch import Tensor

from dlm.diffusion.sampling.loop import Predict


def guided(conditional: Predict, unconditional: Predict, weight: float) -> Predict:
    """Logits u + (weight + 1)(c - u): c with the prompt, u with the prompt masked.

    Two network calls for one. Weight 0 is c alone.
    """

    def predict(tokens_BN: Tensor) -> Tensor:
        c_BNV, u_BNV = conditional(tokens_BN).float(), unconditional(tokens_BN).float()
        return u_BNV + (weight + 1) * (c_BNV - u_BNV)

    return predict
