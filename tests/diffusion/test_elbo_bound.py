"""With the `elbo` weight and no normaliser the expected loss is a bound on -log p.

Everything is enumerated: all rows of 4 tokens from 3 have a random joint probability, and the
network knows its exact conditionals.
"""

import itertools
import math
from collections.abc import Iterator
from functools import cache

import pytest
import torch

from dlm.diffusion.noise import ForwardProcess
from dlm.diffusion.objective import Objective, Weight, token_losses

LENGTH, VOCAB = 4, 3
Row = tuple[int, ...]
torch.set_num_threads(1)


def random_joint() -> dict[Row, float]:
    generator = torch.Generator().manual_seed(2)
    values = torch.rand(VOCAB**LENGTH, generator=generator, dtype=torch.float64) ** 3
    rows = itertools.product(range(VOCAB), repeat=LENGTH)
    return dict(zip(rows, (values / values.sum()).tolist(), strict=True))


JOINT = random_joint()
EXAMPLES = [max(JOINT, key=JOINT.__getitem__), (0, 1, 2, 0), (2, 2, 1, 1)]


@cache
def conditional(position: int, known: tuple[tuple[int, int], ...]) -> tuple[float, ...]:
    """p(token at position | the known positions)."""
    weight = [0.0] * VOCAB
    for row, probability in JOINT.items():
        if all(row[i] == token for i, token in known):
            weight[row[position]] += probability
    return tuple(w / sum(weight) for w in weight)


def known_of(row: Row, hidden: set[int]) -> tuple[tuple[int, int], ...]:
    return tuple((i, token) for i, token in enumerate(row) if i not in hidden)


def expected_loss(row: Row, num_timesteps: int, name: Weight = "elbo") -> float:
    """Mean of the code's loss over t uniform in 1..T and masks of rate t/T."""
    objective = Objective(name, "tokens", num_timesteps=num_timesteps)
    maskable = torch.ones(1, LENGTH, dtype=torch.bool)
    total = 0.0
    for t in range(1, num_timesteps + 1):
        rate = t / num_timesteps
        level = ForwardProcess(num_timesteps=num_timesteps).level(torch.tensor([rate]))
        weight = objective.weights(level, torch.zeros(1, LENGTH, dtype=torch.bool))
        for flags in itertools.product([False, True], repeat=LENGTH):
            hidden = {i for i, flag in enumerate(flags) if flag}
            if not hidden:
                continue
            probability = rate ** len(hidden) * (1 - rate) ** (LENGTH - len(hidden))
            known = known_of(row, hidden)
            logits = torch.tensor([conditional(i, known) for i in sorted(hidden)]).log()
            cross_entropy, _ = token_losses(logits, torch.tensor([row[i] for i in sorted(hidden)]))
            loss = objective.sum_terms(
                cross_entropy, weight[0, : len(hidden)],
                torch.zeros(len(hidden), dtype=torch.long), maskable,
            )  # fmt: skip
            total += probability * float(loss) / num_timesteps
    return total


def trajectories(num_timesteps: int) -> Iterator[Row]:
    """The times at which the tokens are absorbed, all equally likely."""
    return itertools.product(range(1, num_timesteps + 1), repeat=LENGTH)


def bound_over_trajectories(row: Row, num_timesteps: int) -> float:
    """-log p bound of the T-step reverse process: every token is absorbed at a time uniform in
    1..T, and is set by the reverse step that undoes it, seeing those absorbed later."""
    total = 0.0
    for times in trajectories(num_timesteps):
        for i, time in enumerate(times):
            known = known_of(row, {j for j in range(LENGTH) if times[j] <= time})
            total -= math.log(conditional(i, known)[row[i]])
    return total / num_timesteps**LENGTH


@pytest.mark.parametrize("row", EXAMPLES)
@pytest.mark.parametrize("num_timesteps", [1, 2, 5])
def test_expected_loss_is_the_bound_of_the_enumerated_reverse_process(
    row: Row, num_timesteps: int
) -> None:
    expected = bound_over_trajectories(row, num_timesteps)
    assert expected_loss(row, num_timesteps) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("row", EXAMPLES)
@pytest.mark.parametrize("num_timesteps", [2, 5])
def test_expected_elbo_loss_bounds_minus_log_p_of_the_reverse_process(
    row: Row, num_timesteps: int
) -> None:
    """p(row) of the T-step process is the mean, over trajectories, of its tokens' product."""
    p = 0.0
    for times in trajectories(num_timesteps):
        known = [known_of(row, {j for j in range(LENGTH) if times[j] <= t}) for t in times]
        p += math.prod(conditional(i, seen)[row[i]] for i, seen in enumerate(known))
    minus_log_p = -math.log(p / num_timesteps**LENGTH)
    assert expected_loss(row, num_timesteps) > minus_log_p + 1e-4


@pytest.mark.parametrize("num_timesteps", [1, 5])
def test_mean_expected_elbo_loss_bounds_the_entropy_of_the_data(num_timesteps: int) -> None:
    loss = sum(p * expected_loss(row, num_timesteps) for row, p in JOINT.items())
    entropy = -sum(p * math.log(p) for p in JOINT.values())
    assert loss > entropy + 1e-3


@pytest.mark.parametrize("row", EXAMPLES)
def test_many_steps_close_the_gap_to_minus_log_p(row: Row) -> None:
    gaps = [abs(expected_loss(row, steps) + math.log(JOINT[row])) for steps in (2, 10, 100)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.05


@pytest.mark.parametrize("weight", ["rdm_linear", "constant"])
def test_expected_loss_of_another_weight_is_not_that_bound(weight: Weight) -> None:
    row = EXAMPLES[0]
    assert expected_loss(row, 5, weight) < 0.9 * bound_over_trajectories(row, 5)
