"""Re-noising rules: from a canvas and a prediction, which slots are noise next.

Each rule returns (next noise, slots that take the predicted token), both bool [B, N]. A new rule
is one function here and a line in ``RENOISE``.
"""

from collections.abc import Callable

from torch import Tensor

from dlm.diffusion.sampling.state import Canvas, Prediction, lowest

RenoiseRule = Callable[[Canvas, Prediction, Tensor], tuple[Tensor, Tensor]]


def reparam_uncond(
    canvas: Canvas, prediction: Prediction, count_B: Tensor
) -> tuple[Tensor, Tensor]:
    """RDM: every slot competes by its current score; decoded slots may turn into noise again.

    A slot that was noise and is not among the lowest takes its prediction; a decoded slot that
    is not among them keeps its old token.
    """
    noise_BN = lowest(prediction.score_BN, canvas.slot_BN, count_B)
    return noise_BN, canvas.noise_BN & ~noise_BN


def frozen(canvas: Canvas, prediction: Prediction, count_B: Tensor) -> tuple[Tensor, Tensor]:
    """LLaDA, MaskGIT: decoded tokens stay; the least certain noise slots stay noise."""
    noise_BN = lowest(prediction.score_BN, canvas.noise_BN, count_B)
    return noise_BN, canvas.noise_BN & ~noise_BN


RENOISE: dict[str, RenoiseRule] = {"reparam-uncond": reparam_uncond, "frozen": frozen}
