"""Losses against loops in double precision, written from the formulas."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from dlm.diffusion.noise import ForwardProcess, NoiseLevel
from dlm.diffusion.objective import Normaliser, Objective, Weight, token_losses

STEPS, ROWS, LENGTH, VOCAB = 10, 5, 6, 7
WEIGHTS: tuple[Weight, ...] = ("rdm_linear", "elbo", "constant", "cart")
CART_P = 0.3
NORMALISERS: tuple[Normaliser, ...] = ("maskable", "masked", "tokens", "masked_tokens")
every_objective = pytest.mark.parametrize(
    ("weight", "normaliser", "smoothing"),
    [*itertools.product(WEIGHTS, NORMALISERS, (0.0, 0.1))],
)
torch.set_num_threads(1)


def level_of(rate: Tensor) -> NoiseLevel:
    return ForwardProcess(num_timesteps=STEPS).level(rate)


def objective_of(
    weight: Weight, normaliser: Normaliser = "maskable", smoothing: float = 0.0
) -> Objective:
    return Objective(weight, normaliser, smoothing, STEPS, CART_P)


class Batch:
    """Rows with uneven prompts; one row has no mask, one nothing to mask."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.t = [1, 4, 7, 10, 5]
        self.level = level_of(torch.tensor(self.t) / STEPS)
        self.maskable = torch.rand(ROWS, LENGTH, generator=generator) < 0.7
        self.masked = self.maskable & (torch.rand(ROWS, LENGTH, generator=generator) < 0.6)
        self.masked[1] = False
        self.maskable[4] = self.masked[4] = False
        self.target = torch.randint(VOCAB, (ROWS, LENGTH), generator=generator)
        self.logits = 3 * torch.randn(ROWS, LENGTH, VOCAB, generator=generator)
        self.valid = self.maskable | (torch.arange(LENGTH) < LENGTH - 1)
        counts = self.masked.sum(dim=1).tolist()
        assert counts[0] != counts[2] and counts[1] == 0 and min(counts[0], counts[2]) > 0

    def loss(self, objective: Objective, logits: Tensor) -> Tensor:
        """What the code computes, over the whole batch."""
        row, column = self.masked.nonzero(as_tuple=True)
        ce, smoothing = token_losses(logits[row, column], self.target[row, column])
        weight = objective.weights(self.level, self.valid & ~self.masked)[row, column]
        total = objective.sum_terms(ce, weight, row, self.maskable, smoothing)
        counts = int(self.maskable.sum()), int(self.masked.sum())
        return total / objective.denominator(ROWS, *counts)


def weight_of(weight: str, t: int) -> float:
    return {"rdm_linear": 1 - (t - 1) / STEPS, "elbo": STEPS / t, "constant": 1.0}[weight]


def token_weight(batch: Batch, weight: str, row: int, column: int) -> float:
    if weight != "cart":
        return weight_of(weight, batch.t[row])
    clean = [j for j in range(LENGTH) if batch.valid[row, j] and not batch.masked[row, j]]
    return sum(CART_P * (1 - CART_P) ** (abs(column - j) - 1) for j in clean) / 2


def normaliser_of(batch: Batch, normaliser: str, row: int) -> float:
    """What a term of the row is divided by, the mean over rows included."""
    maskable = [sum(r) for r in batch.maskable.tolist()]
    if normaliser == "tokens":
        return sum(maskable)
    if normaliser == "masked_tokens":
        return sum(sum(r) for r in batch.masked.tolist())
    if normaliser == "maskable":
        return maskable[row] * ROWS
    return max(1, sum(batch.masked[row].tolist())) * ROWS


def reference_loss(batch: Batch, weight: str, normaliser: str, smoothing: float) -> float:
    total = 0.0
    for row in range(ROWS):
        for column in range(LENGTH):
            if not batch.masked[row, column]:
                continue
            logits = batch.logits[row, column].tolist()
            log_z = math.log(sum(math.exp(x) for x in logits))
            cross_entropy = log_z - logits[batch.target[row, column]]
            uniform = sum(log_z - x for x in logits) / VOCAB
            term = (1 - smoothing) * token_weight(batch, weight, row, column) * cross_entropy
            term += smoothing * uniform
            total += term / normaliser_of(batch, normaliser, row)
    return total


def reference_gradient(batch: Batch, weight: str, normaliser: str, smoothing: float) -> Tensor:
    gradient = torch.zeros(ROWS, LENGTH, VOCAB, dtype=torch.float64)
    for row in range(ROWS):
        for column in range(LENGTH):
            if not batch.masked[row, column]:
                continue
            logits = batch.logits[row, column].tolist()
            z = sum(math.exp(x) for x in logits)
            for v in range(VOCAB):
                p = math.exp(logits[v]) / z
                right = float(v == int(batch.target[row, column]))
                slope = (1 - smoothing) * token_weight(batch, weight, row, column) * (p - right)
                slope += smoothing * (p - 1 / VOCAB)
                gradient[row, column, v] = slope / normaliser_of(batch, normaliser, row)
    return gradient


@every_objective
def test_loss_equals_the_loop(weight: Weight, normaliser: Normaliser, smoothing: float) -> None:
    batch = Batch()
    objective = objective_of(weight, normaliser, smoothing)
    expected = reference_loss(batch, weight, normaliser, smoothing)
    assert batch.loss(objective, batch.logits).item() == pytest.approx(expected, rel=1e-5)


@every_objective
def test_gradient_equals_the_loop(weight: Weight, normaliser: Normaliser, smoothing: float) -> None:
    batch = Batch()
    logits = batch.logits.clone().requires_grad_()
    batch.loss(objective_of(weight, normaliser, smoothing), logits).backward()
    expected = reference_gradient(batch, weight, normaliser, smoothing)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.double(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("weight", WEIGHTS[:3])
def test_weight_of_every_time_step(weight: Weight) -> None:
    t = torch.arange(1, STEPS + 1)
    got = objective_of(weight).weights(level_of(t / STEPS), torch.ones(STEPS, 2).bool())
    expected = [weight_of(weight, step) for step in t.tolist()]
    assert got[:, 0].tolist() == got[:, 1].tolist() == pytest.approx(expected, rel=1e-5)


def test_expected_weight_peaks_at_mid_noise_is_flat_or_rises() -> None:
    rate = torch.arange(1, 51) / 50
    level, clean = ForwardProcess(num_timesteps=50).level(rate), torch.ones(50, 1).bool()
    rdm, elbo, constant = (
        Objective(w).weights(level, clean).squeeze(1) * rate for w in WEIGHTS[:3]
    )
    assert 24 <= int(rdm.argmax()) <= 26
    assert torch.allclose(elbo, torch.ones(50))
    assert (constant.diff() > 0).all()


def test_smoothing_term_does_not_carry_the_weight() -> None:
    """As in the paper's code: at small t an elbo weight of 10 leaves the smoothing alone."""
    objective = Objective("elbo", "tokens", 0.1, STEPS)
    row, maskable = torch.tensor([0]), torch.ones(1, 1, dtype=torch.bool)
    zero, one = torch.zeros(1), torch.ones(1)
    weights = objective.weights(level_of(torch.tensor([0.1])), torch.zeros(1, 1).bool())[0]
    assert float(objective.sum_terms(zero, weights, row, maskable, one)) == pytest.approx(0.1)
    assert float(objective.sum_terms(one, weights, row, maskable, zero)) == pytest.approx(9.0)


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_a_batch_without_any_mask_has_loss_zero_and_finite_gradient(normaliser: Normaliser) -> None:
    batch = Batch()
    batch.masked[:] = False
    logits = batch.logits.clone().requires_grad_()
    loss = batch.loss(Objective("elbo", normaliser, 0.1, STEPS), logits)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None and not logits.grad.any()


def test_token_losses_of_half_precision_logits_are_computed_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (10 * torch.randn(20, 500, generator=generator)).bfloat16()
    target = torch.randint(500, (20,), generator=generator)
    ce, smoothing = token_losses(logits, target)
    exact = -logits.double().log_softmax(-1)
    assert ce.dtype == smoothing.dtype == torch.float32
    torch.testing.assert_close(ce.double(), exact[torch.arange(20), target], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(smoothing.double(), exact.mean(-1), rtol=1e-5, atol=1e-6)


def test_every_objective_is_printed_differently() -> None:
    names = {
        str(Objective(w, n, s)) for w, n, s in itertools.product(WEIGHTS, NORMALISERS, (0.0, 0.1))
    }
    assert len(names) == 32
