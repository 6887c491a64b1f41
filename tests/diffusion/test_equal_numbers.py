"""Where two numbers are equal the rules fall to the side that their formula says."""

import math

import torch
from torch import Tensor

from dlm.diffusion.sampling import rules
from dlm.diffusion.sampling.choice import tempered
from dlm.diffusion.sampling.draws import Draws
from dlm.diffusion.sampling.state import Canvas, Prediction, Step

MASK = 9


def canvas_of(tokens: list[int], scores: list[float]) -> Canvas:
    token_BN, score_BN = torch.tensor([tokens]), torch.tensor([scores])
    return Canvas(
        token_BN, token_BN == MASK, torch.ones_like(token_BN).bool(), score_BN.clone(), score_BN
    )


def predicted(tokens: list[int], scores: list[float], log_p: list[float]) -> Prediction:
    score_BN = torch.tensor([scores])
    return Prediction(torch.tensor([tokens]), torch.tensor([log_p]), score_BN, score_BN)


def step_of(noise: int, limit: float = math.nan) -> Step:
    half, number_BN = torch.full((1, 1), 0.5), torch.arange(4)[None]
    return Step(torch.tensor([noise]), half, half, Draws(None, 0, number_BN), limit)


def places(mask_BN: Tensor) -> list[int]:
    return mask_BN[0].nonzero().flatten().tolist()


def test_cond_returns_a_slot_to_noise_if_its_score_fell_and_not_if_it_is_the_same() -> None:
    canvas = canvas_of([1, 2, MASK], [-0.5, -0.5, 0.0])
    scores = [-0.5, -0.75, -0.25]
    noise_BN, set_BN = rules.reparam_cond(canvas, predicted([1, 2, 3], scores, scores), step_of(2))
    assert (places(noise_BN), places(set_BN)) == ([1], [2])


def test_a_probability_of_the_threshold_itself_is_sure_enough() -> None:
    canvas = canvas_of([MASK, MASK, MASK], [0.0, 0.0, 0.0])
    log_p = [0.0, -0.5, 0.0]
    _, set_BN = rules.threshold(canvas, predicted([1, 1, 1], log_p, log_p), step_of(0, 1.0))
    assert places(set_BN) == [0, 2]


def test_a_sum_of_the_entropy_bound_itself_is_within_it() -> None:
    """Entropies 0, 0.5, 0.5, 2 and the bound 1: without the largest, the four sum to 1."""
    canvas = canvas_of([MASK] * 4, [0.0] * 4)
    scores = [-0.5, 0.0, -2.0, -0.5]
    proposal = predicted([1] * 4, scores, scores)
    _, set_BN = rules.entropy_bound(canvas, proposal, step_of(0, 1.0))
    assert places(set_BN) == [0, 1, 2, 3]
    _, set_BN = rules.entropy_bound(canvas, proposal, step_of(0, 0.99))
    assert places(set_BN) == [0, 1, 3]


def test_a_nucleus_ends_with_the_token_that_makes_it_full() -> None:
    """Of two equal tokens the first holds half of the probability."""
    kept = tempered(torch.zeros(1, 1, 2), temperature=1.0, top_k=None, top_p=0.5)
    assert kept.isfinite().tolist() == [[[True, False]]]
