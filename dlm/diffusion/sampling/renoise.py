"""Re-noising rules: from a canvas and a prediction, which slots are noise next.

Each rule returns (next noise, slots that take the predicted token), both bool [B, N]. A new rule
is one function, what it reads, and a line in ``samplers``.

What a rule reads of a prediction is a function of the canvas, made before the network is called.
Where the number of noise slots follows from the schedule alone, so does the number of slots read.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dlm.diffusion.sampling.state import Canvas, Prediction, Step, lowest

RenoiseRule = Callable[[Canvas, Prediction, Step], tuple[Tensor, Tensor]]
Reads = Callable[[Canvas, Step], Tensor]
"""The slots whose predictions a rule reads in an iteration, bool [B, N]."""


def every_slot(canvas: Canvas, step: Step) -> Tensor:
    """All compete, unless none is to be noise: then only noise slots take a token."""
    return canvas.noise_BN | (canvas.slot_BN & (step.noise_count_B > 0)[:, None])


def noise_slots(canvas: Canvas, step: Step) -> Tensor:
    """Those that are noise."""
    return canvas.noise_BN


def noise_slots_of_rows_that_change(canvas: Canvas, step: Step) -> Tensor:
    """The same, of rows in which a slot is to be set."""
    return canvas.noise_BN & (canvas.noise_BN.sum(dim=1) > step.noise_count_B)[:, None]


def drawn_slots(canvas: Canvas, step: Step) -> Tensor:
    """Those that a draw sets."""
    return canvas.noise_BN & (step.draws.setting() <= step.set_probability)


def first_slots(canvas: Canvas, step: Step) -> Tensor:
    """The first noise slots, as many as are to be set."""
    return canvas.noise_BN & ~_last_slots(canvas, step)


def _last_slots(canvas: Canvas, step: Step) -> Tensor:
    slot_N = torch.arange(canvas.slot_BN.shape[1], device=canvas.slot_BN.device)
    order_BN = -slot_N.float().expand(canvas.slot_BN.shape)
    return lowest(order_BN, canvas.noise_BN, step.noise_count_B)


def reparam_uncond(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
    """RDM (arXiv 2302.05737): every slot competes by its current score; decoded slots may turn
    into noise again.

    A slot that was noise and is not among the lowest takes its prediction; a decoded slot that
    is not among them keeps its old token.
    """
    noise_BN = lowest(prediction.rank_BN, canvas.slot_BN, step.noise_count_B)
    return noise_BN, canvas.noise_BN & ~noise_BN


def reparam_cond(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
    """RDM: as uncond, but a decoded slot returns to noise only if its prediction is unchanged and
    its score fell. At most as many slots as scheduled stay noise."""
    low_BN = lowest(prediction.rank_BN, canvas.slot_BN, step.noise_count_B)
    unchanged_BN = prediction.tokens_BN == canvas.tokens_BN
    fell_BN = prediction.score_BN < canvas.score_BN
    noise_BN = low_BN & (canvas.noise_BN | (unchanged_BN & fell_BN))
    return noise_BN, canvas.noise_BN & ~low_BN


def frozen(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
    """LLaDA, MaskGIT: decoded tokens stay; the least certain noise slots stay noise."""
    noise_BN = lowest(prediction.rank_BN, canvas.noise_BN, step.noise_count_B)
    return noise_BN, canvas.noise_BN & ~noise_BN


def cmlm(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
    """Mask-predict (arXiv 1904.09324): any slot may be noise again; a decoded slot competes with
    the score it had when it was set."""
    score_BN = torch.where(canvas.noise_BN, prediction.rank_BN, canvas.score_BN)
    noise_BN = lowest(score_BN, canvas.slot_BN, step.noise_count_B)
    return noise_BN, canvas.noise_BN & ~noise_BN


def ancestral(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
    """The reverse process itself (MDLM, arXiv 2406.07524): each noise slot is set on its own with
    probability (alpha_s - alpha_t)/(1 - alpha_t)."""
    set_BN = drawn_slots(canvas, step)
    return canvas.noise_BN & ~set_BN, set_BN


def left_to_right(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
    """The first slots are set first."""
    noise_BN = _last_slots(canvas, step)
    return noise_BN, canvas.noise_BN & ~noise_BN


def above_threshold(threshold: float) -> RenoiseRule:
    """Fast-dLLM (arXiv 2505.22618): all noise slots whose token has probability ``threshold`` or
    more are set, at least the likeliest."""

    def rule(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
        sure_BN = prediction.log_probability_BN.exp() >= threshold
        set_BN = canvas.noise_BN & (sure_BN | _surest(prediction, canvas, 1) | _is_last(step))
        return canvas.noise_BN & ~set_BN, set_BN

    return rule


def within_entropy_bound(bound: float) -> RenoiseRule:
    """EB-sampler (arXiv 2505.24857): the most noise slots, surest first, whose summed entropy
    minus the largest one stays within ``bound`` nats, at least one. Needs the entropy score."""

    def rule(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
        entropy_BN = (-prediction.score_BN).masked_fill(~canvas.noise_BN, torch.inf)
        sorted_BN = entropy_BN.sort(dim=1).values
        # In ascending order the largest entropy is the last one: the sum before it decides.
        before_BN = sorted_BN.cumsum(dim=1) - sorted_BN
        count_B = ((before_BN <= bound) & sorted_BN.isfinite()).sum(dim=1)
        set_BN = canvas.noise_BN & (_surest(prediction, canvas, count_B) | _is_last(step))
        return canvas.noise_BN & ~set_BN, set_BN

    return rule


def _surest(prediction: Prediction, canvas: Canvas, count_B: Tensor | int) -> Tensor:
    rows = canvas.noise_BN.shape[0]
    wanted_B = torch.as_tensor(count_B, device=canvas.noise_BN.device).expand(rows)
    return lowest(-prediction.rank_BN, canvas.noise_BN, wanted_B)


def _is_last(step: Step) -> Tensor:
    return step.set_probability == 1.0
