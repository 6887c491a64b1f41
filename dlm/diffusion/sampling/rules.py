"""Re-noising rules: from a canvas and a prediction, which slots are noise next.

A rule is one object: its decision, and what the loop must know of it. A new one is a function and
a line at the end of this file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dlm.diffusion.sampling.choice import ScoreName
from dlm.diffusion.sampling.state import Canvas, Prediction, Step, lowest

Decide = Callable[[Canvas, Prediction, Step], tuple[Tensor, Tensor]]
"""(Next noise, slots that take the predicted token), both bool [B, N]."""
Reads = Callable[[Canvas, Step], Tensor]
"""The slots whose predictions a rule reads in an iteration, bool [B, N]; it is asked before the
network is called."""
NumRead = Callable[[int, int, int], int]
"""The same as a number, from the slots of a row and its noise slots before and after; at most."""


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


def threshold(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
    """Fast-dLLM (arXiv 2505.22618): all noise slots whose token has the probability
    ``step.limit`` or more are set, at least the likeliest."""
    sure_BN = prediction.log_probability_BN.exp() >= step.limit
    set_BN = canvas.noise_BN & (sure_BN | _surest(prediction, canvas, 1) | _is_last(step))
    return canvas.noise_BN & ~set_BN, set_BN


def entropy_bound(canvas: Canvas, prediction: Prediction, step: Step) -> tuple[Tensor, Tensor]:
    """EB-sampler (arXiv 2505.24857): the most noise slots, surest first, whose summed entropy
    minus the largest one stays within ``step.limit`` nats, at least one."""
    entropy_BN = (-prediction.score_BN).masked_fill(~canvas.noise_BN, torch.inf)
    sorted_BN = entropy_BN.sort(dim=1).values
    # In ascending order the largest entropy is the last one: the sum before it decides.
    before_BN = sorted_BN.cumsum(dim=1) - sorted_BN
    count_B = ((before_BN <= step.limit) & sorted_BN.isfinite()).sum(dim=1)
    set_BN = canvas.noise_BN & (_surest(prediction, canvas, count_B) | _is_last(step))
    return canvas.noise_BN & ~set_BN, set_BN


def _surest(prediction: Prediction, canvas: Canvas, count_B: Tensor | int) -> Tensor:
    rows = canvas.noise_BN.shape[0]
    wanted_B = torch.as_tensor(count_B, device=canvas.noise_BN.device).expand(rows)
    return lowest(-prediction.rank_BN, canvas.noise_BN, wanted_B)


def _is_last(step: Step) -> Tensor:
    return step.set_probability == 1.0


@dataclass(frozen=True)
class Rule:
    """Which slots are noise next, and what the loop must know of the rule."""

    decide: Decide
    """The decision of an iteration."""
    reads: Reads = every_slot
    """What of the prediction it reads."""
    num_read: NumRead | None = None
    """How much that is, where the schedule says it; None: the canvas must be looked at."""
    ranks: bool = False
    """Whether it sets the slots of the highest rank, as many as the schedule says."""
    draws: bool = True
    """Whether it draws (``step.draws``): then the seed stands beside its texts."""
    counts_are_drawn: bool = False
    """Whether ``step.draws.setting()`` decides how many slots are set, not the schedule."""
    stops_early: bool = False
    """Whether rows are finished when the rule says so; the iterations are an upper limit."""
    limit: Literal["threshold", "entropy_bound"] | None = None
    """The sampler's number that is its ``step.limit``."""
    score: ScoreName | None = None
    """The only score that it can read; None: any."""


def _all_unless_last(length: int, before: int, after: int) -> int:
    return length if after else before


REPARAM_UNCOND = Rule(reparam_uncond, every_slot, _all_unless_last, ranks=True, draws=False)
REPARAM_COND = Rule(reparam_cond, every_slot, _all_unless_last, ranks=True, draws=False)
FROZEN = Rule(
    frozen,
    noise_slots_of_rows_that_change,
    lambda length, before, after: before if before > after else 0,
    ranks=True,
    draws=False,
)
CMLM = Rule(cmlm, noise_slots, lambda length, before, after: before, ranks=True, draws=False)
ANCESTRAL = Rule(
    ancestral, drawn_slots, lambda length, before, after: before - after, counts_are_drawn=True
)
LEFT_TO_RIGHT = Rule(
    left_to_right, first_slots, lambda length, before, after: before - after, draws=False
)
THRESHOLD = Rule(threshold, noise_slots, draws=False, stops_early=True, limit="threshold")
ENTROPY_BOUND = Rule(
    entropy_bound, noise_slots, draws=False, stops_early=True, limit="entropy_bound",
    score="entropy",
)  # fmt: skip
