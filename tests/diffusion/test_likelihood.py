"""Likelihood estimates against a joint distribution that is known exactly.

Numbers: vocabulary 4, length 4, 15 maskings; eps 1e-3 for Bernoulli masks; the sample counts stand
beside each test. B rows, N positions, S draws.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact_joint import (
    FORBIDDEN_IDS,
    LENGTH,
    MASK_ID,
    VOCAB,
    all_sequences,
    joint,
    log_prob,
    predict,
)
from statistics_bounds import assert_distributed
from torch import Tensor

from dlm.diffusion.likelihood import (
    Estimate,
    bernoulli,
    bernoulli_bound,
    chain_rule,
    cross_entropy,
    exactly_l,
    exactly_l_bound,
)
from dlm.diffusion.noise import ForwardProcess, NoiseKey, replace_masked
from dlm.diffusion.objective import Objective, token_losses

Network = Callable[[Tensor], Tensor]
EPS = 1e-3
EXAMPLES = torch.stack([all_sequences()[int(joint.argmax())], torch.tensor([2, 0, 3, 3])])
EVERYTHING = torch.ones(1, LENGTH, dtype=torch.bool)


def inexact(tokens_BN: Tensor) -> Tensor:
    """A network whose conditionals belong to no joint distribution, so that orders differ."""
    bend_NV = torch.linspace(0.2, 2.0, LENGTH * (VOCAB + 1)).view(LENGTH, VOCAB + 1).sin()
    return predict(tokens_BN) * 0.6 + bend_NV


def key_of(*rows: int, seed: int = 7) -> NoiseKey:
    return NoiseKey(seed, torch.tensor(rows))


def subsets() -> list[tuple[int, ...]]:
    """Every set of masked positions that is not empty."""
    return [s for n in range(1, 5) for s in itertools.combinations(range(LENGTH), n)]


def enumerated_bound(network: Network, row_N: Tensor) -> float:
    """Mean over l in 1..N and over the sets of l positions of (N/l) * their cross-entropies."""
    total = 0.0
    for masked in subsets():
        noisy_N = row_N.clone()
        noisy_N[list(masked)] = MASK_ID
        p_NV = network(noisy_N[None])[0, :, :VOCAB].softmax(-1)
        loss = -sum(float(p_NV[i, row_N[i]].log()) for i in masked)
        total += LENGTH / len(masked) * loss / math.comb(LENGTH, len(masked)) / LENGTH
    return total


def enumerated_masks(network: Network, row_N: Tensor, rate: float) -> float:
    """Mean over independent masks of that rate of (1/rate) * the cross-entropies."""
    total = 0.0
    for masked in subsets():
        noisy_N = row_N.clone()
        noisy_N[list(masked)] = MASK_ID
        p_NV = network(noisy_N[None])[0, :, :VOCAB].softmax(-1)
        loss = -sum(float(p_NV[i, row_N[i]].log()) for i in masked)
        total += rate ** (len(masked) - 1) * (1 - rate) ** (LENGTH - len(masked)) * loss
    return total


def truncated_bound(network: Network, row_N: Tensor) -> float:
    """Mean of ``enumerated_masks`` over rates in (eps, 1]: a cubic, exact by Simpson's rule."""
    ends = enumerated_masks(network, row_N, EPS) + enumerated_masks(network, row_N, 1.0)
    return (ends + 4 * enumerated_masks(network, row_N, (EPS + 1) / 2)) / 6


def test_the_exact_network_knows_the_conditionals_of_the_joint() -> None:
    tokens = torch.tensor([[4, 1, 4, 3], [4, 4, 4, 4], [0, 4, 2, 2]])
    p_BNV = predict(tokens)[..., :VOCAB].exp()
    for row, place, value in itertools.product(range(3), range(LENGTH), range(VOCAB)):
        seen = {i: int(t) for i, t in enumerate(tokens[row]) if t != MASK_ID and i != place}
        weight = [0.0, 0.0]
        for sequence, p in zip(all_sequences().tolist(), joint.tolist(), strict=True):
            if all(sequence[i] == t for i, t in seen.items()):
                weight[0] += p
                weight[1] += p * (sequence[place] == value)
        assert float(p_BNV[row, place, value]) == pytest.approx(weight[1] / weight[0], rel=1e-12)
    assert float(log_prob(all_sequences()).exp().sum()) == pytest.approx(1.0, rel=1e-12)


def test_exactly_l_draws_every_length_and_every_set_of_places_alike() -> None:
    """12,000 draws, 15 sets."""
    draw_S = torch.arange(12_000)
    masking = exactly_l(
        EVERYTHING.expand(len(draw_S), -1), key=NoiseKey(1, 0 * draw_S), draw=draw_S
    )
    sets = subsets()
    counts = torch.zeros(len(sets))
    for mask in masking.noise_BN.tolist():
        counts[sets.index(tuple(i for i, masked in enumerate(mask) if masked))] += 1
    assert_distributed(counts, [1 / LENGTH / math.comb(LENGTH, len(s)) for s in sets])


@pytest.mark.parametrize("network", [predict, inexact])
@pytest.mark.parametrize("row_N", EXAMPLES)
def test_expectation_of_the_exactly_l_estimate_is_the_enumerated_bound(
    network: Network, row_N: Tensor
) -> None:
    """The code's value of each of the 15 maskings, weighed by its probability."""
    values: dict[tuple[int, ...], float] = {}
    for draw in range(400):
        masking = exactly_l(EVERYTHING, key=key_of(0), draw=draw)
        masked = tuple(masking.noise_BN[0].nonzero().flatten().tolist())
        logits_NV = network(row_N[None].masked_fill(masking.noise_BN, MASK_ID))[0]
        loss_N = cross_entropy(logits_NV, row_N, FORBIDDEN_IDS)
        values[masked] = float(masking.weight_B) * float(loss_N[masking.scored_BN[0]].sum())
    assert len(values) == 15
    expected = sum(v / LENGTH / math.comb(LENGTH, len(s)) for s, v in values.items())
    assert expected == pytest.approx(enumerated_bound(network, row_N), rel=1e-12)


@pytest.mark.parametrize("row_N", EXAMPLES)
def test_the_bound_is_reached_by_exact_conditionals_and_not_by_others(row_N: Tensor) -> None:
    assert enumerated_bound(predict, row_N) == pytest.approx(-float(log_prob(row_N[None])))
    orders = [
        chain_rule(
            inexact, row_N[None], EVERYTHING, mask_token_id=MASK_ID, forbidden_ids=FORBIDDEN_IDS,
            rank_BN=torch.tensor([order]),
        )[0].value
        for order in itertools.permutations(range(LENGTH))
    ]  # fmt: skip
    assert enumerated_bound(inexact, row_N) == pytest.approx(sum(orders) / len(orders))
    mean_p = sum(math.exp(-value) for value in orders) / len(orders)
    assert enumerated_bound(inexact, row_N) > -math.log(mean_p) + 1e-3


@pytest.mark.parametrize("rank", [None, (0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_chain_rule_likelihood_is_the_true_log_probability_in_any_order(
    rank: tuple[int, ...] | None,
) -> None:
    tokens_BN = all_sequences()
    estimates = chain_rule(
        predict, tokens_BN, EVERYTHING.expand(256, -1), mask_token_id=MASK_ID,
        forbidden_ids=FORBIDDEN_IDS,
        rank_BN=None if rank is None else torch.tensor(rank).expand(256, -1),
    )  # fmt: skip
    values = torch.tensor([e.value for e in estimates], dtype=torch.float64)
    torch.testing.assert_close(values, -log_prob(tokens_BN), rtol=1e-12, atol=1e-12)
    assert {(e.standard_error, e.samples) for e in estimates} == {(0.0, 1)}


def test_chain_rule_reveals_the_tokens_in_the_order_of_their_ranks() -> None:
    seen: list[list[int]] = []

    def watched(tokens_BN: Tensor) -> Tensor:
        seen.append(tokens_BN[0].tolist())
        return predict(tokens_BN)

    chain_rule(
        watched, torch.tensor([[0, 1, 2, 3]]), EVERYTHING, mask_token_id=MASK_ID,
        forbidden_ids=FORBIDDEN_IDS, rank_BN=torch.tensor([[2, 0, 3, 1]]),
    )  # fmt: skip
    assert seen == [[4, 4, 4, 4], [4, 1, 4, 4], [4, 1, 4, 3], [0, 1, 4, 3]]


@pytest.mark.parametrize("network", [predict, inexact])
@pytest.mark.parametrize("row_N", EXAMPLES)
def test_exactly_l_and_bernoulli_agree_and_the_first_has_the_smaller_variance(
    network: Network, row_N: Tensor
) -> None:
    """3,000 draws each (50 of 60 rows), eps 1e-3: within 3 standard errors of each other and of
    the enumerated value. Measured: the standard error is 0.15 to 0.42 times that of Bernoulli
    masks."""
    rows = 60
    exactly, independent = (
        Estimate.total(
            estimator(
                network, row_N.expand(rows, -1), EVERYTHING.expand(rows, -1),
                key=key_of(*range(rows)), samples=50, mask_token_id=MASK_ID,
                forbidden_ids=FORBIDDEN_IDS,
            )
        ).per(rows)
        for estimator in (exactly_l_bound, bernoulli_bound)
    )  # fmt: skip
    error = math.hypot(exactly.standard_error, independent.standard_error)
    assert abs(exactly.value - independent.value) < 3 * error
    truth = enumerated_bound(network, row_N)
    assert abs(exactly.value - truth) < 3 * exactly.standard_error
    truncated = truncated_bound(network, row_N)
    assert abs(independent.value - truncated) < 3 * independent.standard_error
    assert exactly.standard_error < 0.5 * independent.standard_error


def test_standard_error_is_the_spread_of_the_estimate_over_seeds() -> None:
    """200 estimates of 50 draws."""
    rows = 200
    estimates = exactly_l_bound(
        inexact, EXAMPLES[:1].expand(rows, -1), EVERYTHING.expand(rows, -1),
        key=key_of(*range(rows)), samples=50, mask_token_id=MASK_ID, forbidden_ids=FORBIDDEN_IDS,
    )  # fmt: skip
    spread = float(torch.tensor([e.value for e in estimates]).std())
    stated = sum(e.standard_error for e in estimates) / rows
    assert stated == pytest.approx(spread, rel=0.15)


def elbo_losses(process: ForwardProcess, row_N: Tensor, batches: int = 60) -> Estimate:
    """The training loss of ``elbo``, without a normaliser, of batches of 400 copies of a row."""
    rows = 400
    objective = Objective("elbo", "tokens", num_timesteps=process.num_timesteps)
    tokens_BN, index_BN = row_N.expand(rows, -1), torch.arange(LENGTH).expand(rows, -1)
    maskable_BN = EVERYTHING.expand(rows, -1)
    losses = []
    for batch in range(batches):
        key = NoiseKey(5, torch.arange(rows) + rows * batch)
        noised = process.corrupt(key, maskable_BN, index_BN)
        noisy_BN = replace_masked(tokens_BN, noised.masked_BL, index_BN, mask_token_id=MASK_ID)
        row_M, column_M = noised.masked_BL.nonzero(as_tuple=True)
        logits_MV = inexact(noisy_BN)[row_M, column_M, :VOCAB]
        cross_entropy_M, _ = token_losses(logits_MV, tokens_BN[row_M, column_M])
        weight_M = objective.weights(noised.level, ~noised.masked_BL)[row_M, column_M]
        losses.append(objective.sum_terms(cross_entropy_M, weight_M, row_M, maskable_BN) / rows)
    return Estimate.of(torch.stack(losses))


@pytest.mark.parametrize("row_N", EXAMPLES)
def test_mean_continuous_elbo_loss_is_the_enumerated_bound(row_N: Tensor) -> None:
    """24,000 rows, eps 1e-3, which moves the bound by less than 1e-3 of itself."""
    process = ForwardProcess(time="continuous", min_time=EPS, times="independent")
    loss = elbo_losses(process, row_N)
    truth = enumerated_bound(inexact, row_N)
    assert truncated_bound(inexact, row_N) == pytest.approx(truth, rel=1e-3)
    assert abs(loss.value - truth) < 3 * loss.standard_error
    assert loss.standard_error < 0.02 * truth


@pytest.mark.parametrize("row_N", EXAMPLES)
@pytest.mark.parametrize("num_timesteps", [1, 3])
def test_mean_discrete_elbo_loss_is_the_enumerated_bound_of_t_steps(
    num_timesteps: int, row_N: Tensor
) -> None:
    """24,000 rows. T steps set several tokens at once, so it lies above that of one by one."""
    process = ForwardProcess(time="discrete", num_timesteps=num_timesteps, times="independent")
    loss = elbo_losses(process, row_N)
    rates = [t / num_timesteps for t in range(1, num_timesteps + 1)]
    truth = sum(enumerated_masks(inexact, row_N, rate) for rate in rates) / num_timesteps
    assert abs(loss.value - truth) <= 3 * loss.standard_error + 1e-5


def bag_network(tokens_BN: Tensor) -> Tensor:
    """Logits from the counts of the tokens 0..3 in the row: padding (5) changes nothing."""
    count_BV = torch.nn.functional.one_hot(tokens_BN, 6)[..., :4].sum(dim=1).double()
    weight_VV = torch.linspace(-1.0, 1.0, 24, dtype=torch.float64).view(4, 6).mul(9).sin()
    return (count_BV @ weight_VV)[:, None].expand(-1, tokens_BN.shape[1], -1)


@pytest.mark.parametrize("estimator", [exactly_l_bound, bernoulli_bound])
def test_a_row_alone_and_in_a_batch_padded_on_either_side_has_the_same_estimate(
    estimator: Callable[..., list[Estimate]],
) -> None:
    forbidden = torch.tensor([4, 5])
    alone = torch.tensor([[3, 1, 0, 2, 2]])
    maskable = torch.tensor([[False, True, True, True, True]])
    batch = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3], [5, 5, 3, 1, 0, 2, 2, 5], [5] * 7 + [1]])
    maskable_batch = batch != 5
    maskable_batch[1, 2] = False
    same = {"samples": 20, "mask_token_id": MASK_ID, "forbidden_ids": forbidden}
    (single,) = estimator(bag_network, alone, maskable, key=key_of(9), **same)
    beside = estimator(bag_network, batch, maskable_batch, key=key_of(4, 9, 2), **same)
    assert beside[1] == single
    assert beside[0] != single
    assert [e.samples for e in beside] == [20, 20, 20]


def test_chain_rule_of_rows_of_unlike_length_is_that_of_each_alone() -> None:
    forbidden = torch.tensor([4, 5])
    batch = torch.tensor([[0, 1, 2, 3, 0], [5, 5, 3, 1, 5]])
    together = chain_rule(
        bag_network, batch, batch != 5, mask_token_id=MASK_ID, forbidden_ids=forbidden
    )
    for row, tokens in enumerate([[0, 1, 2, 3, 0], [3, 1]]):
        (alone,) = chain_rule(
            bag_network, torch.tensor([tokens]), torch.ones(1, len(tokens), dtype=torch.bool),
            mask_token_id=MASK_ID, forbidden_ids=forbidden,
        )  # fmt: skip
        assert together[row].value == pytest.approx(alone.value, rel=1e-12)


def test_forbidden_tokens_take_no_probability() -> None:
    logits = torch.tensor([[1.0, 2.0, 50.0]])
    loss = cross_entropy(logits, torch.tensor([0]), torch.tensor([2]))
    assert float(loss) == pytest.approx(math.log(1 + math.e), rel=1e-6)
    assert loss.dtype == torch.float64


def test_a_bfloat16_networks_losses_are_computed_in_float32() -> None:
    logits = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    target = torch.tensor([1, 2, 3])
    loss = cross_entropy(logits, target, torch.tensor([0]))
    exact = cross_entropy(logits.double(), target, torch.tensor([0]))
    torch.testing.assert_close(loss, exact, rtol=1e-5, atol=0)


def test_totals_add_values_and_variances() -> None:
    total = Estimate.total([Estimate(1.0, 0.3, 8), Estimate(2.0, 0.4, 4)])
    assert (total.value, total.samples) == (3.0, 4)
    assert total.standard_error == pytest.approx(0.5)
    assert total.per(2) == Estimate(1.5, total.standard_error / 2, 4)


def test_what_has_no_estimate_is_refused_with_the_reason() -> None:
    row = torch.tensor([[0, 1, 2, 3]])
    same: dict[str, Any] = {"mask_token_id": MASK_ID, "forbidden_ids": FORBIDDEN_IDS}
    with pytest.raises(ValueError, match="samples=1 has no standard error: draw at least 2"):
        exactly_l_bound(predict, row, EVERYTHING, key=key_of(0), samples=1, **same)
    with pytest.raises(ValueError, match="row 0 has no token to score: leave it out"):
        exactly_l_bound(predict, row, ~EVERYTHING, key=key_of(0), samples=2, **same)
    with pytest.raises(ValueError, match="token 4 is to be scored but is never predicted"):
        chain_rule(predict, row.masked_fill(row == 2, MASK_ID), EVERYTHING, **same)
    with pytest.raises(ValueError, match=r"ranks of row 0 are \[0, 0, 1, 2\]"):
        chain_rule(predict, row, EVERYTHING, rank_BN=torch.tensor([[0, 0, 1, 2]]), **same)
    with pytest.raises(ValueError, match="min_time=0 must lie between 0 and 1"):
        bernoulli(EVERYTHING, key=key_of(0), draw=0, min_time=0)


def test_the_standard_error_of_two_draws_is_half_their_distance() -> None:
    """The deviation of 1 and 4 is sqrt(4.5) with n - 1, and two draws have it over sqrt(2)."""
    assert Estimate.of(torch.tensor([1.0, 4.0])) == Estimate(2.5, pytest.approx(1.5), 2)  # type: ignore[arg-type]
