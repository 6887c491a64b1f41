"""Drawing tokens: the right distribution, in float32 as in float64."""

import pytest
import torch
from statistics_bounds import assert_distributed
from torch import Tensor

from dlm.diffusion.counter import counter_bits, counter_gumbel
from dlm.diffusion.sampling.choice import SCORES, choose_tokens, log_probabilities
from dlm.diffusion.sampling.draws import DrawKey, Draws

ROWS = 20_000
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
torch.set_num_threads(1)


def draws_of(rows: int, slots: int = 1, seed: int = 0) -> Draws:
    return Draws(DrawKey(seed, torch.arange(rows)), 0, torch.arange(slots).expand(rows, slots))


def counts(temperature: float, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    log_p = LOGITS.log_softmax(-1).expand(ROWS, 1, -1)
    tokens = choose_tokens(log_p, draws_of(ROWS), temperature=temperature, top_k=top_k, top_p=top_p)
    return torch.bincount(tokens.flatten(), minlength=len(LOGITS))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_in_proportion_to_p_to_the_inverse_temperature(temperature: float) -> None:
    expected = (LOGITS.double() / temperature).softmax(-1).tolist()
    assert_distributed(counts(temperature), expected)


def test_top_k_draws_from_the_k_likeliest() -> None:
    got = counts(1.0, top_k=3)
    assert not got[3:].any()
    assert_distributed(got[:3], LOGITS[:3].double().softmax(-1).tolist())


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, 1), (0.6, 2), (0.9, 4), (0.01, 1)])
def test_top_p_draws_from_the_smallest_set_with_so_much_probability(
    top_p: float, kept: int
) -> None:
    p = LOGITS.double().softmax(-1)
    assert float(p[:kept].sum()) >= top_p and float(p[: kept - 1].sum()) < top_p
    got = counts(1.0, top_p=top_p)
    assert not got[kept:].any() and (got[:kept] > 0).all()
    if kept > 1:
        assert_distributed(got[:kept], LOGITS[:kept].double().softmax(-1).tolist())


def test_temperature_zero_takes_the_likeliest_and_the_first_of_equals() -> None:
    log_p = torch.tensor([[[0.1, 0.7, 0.2], [0.4, 0.2, 0.4]]]).log()
    chosen = choose_tokens(log_p, draws_of(1, 2), temperature=0, top_k=None, top_p=None)
    assert chosen.tolist() == [[1, 0]]


def test_gumbel_noise_in_float32_is_that_in_float64() -> None:
    index = torch.arange(2_000_000)
    got = counter_gumbel(7, index)
    uniform = (counter_bits(7, index).double() + 0.5) * 2.0**-32
    exact = -torch.log(-torch.log1p(-uniform))
    assert got.dtype == torch.float32
    # The largest values decide an argmax: they come from the smallest uniform numbers.
    assert float(exact.max()) > 13
    top = exact > 5
    torch.testing.assert_close(got[top].double(), exact[top], rtol=1e-5, atol=0)
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-2)
    assert float(got.double().mean()) == pytest.approx(0.5772156649, abs=0.004)
    assert float(got.double().var()) == pytest.approx(torch.pi**2 / 6, rel=0.01)


def test_tokens_drawn_with_float32_noise_are_those_of_float64() -> None:
    logits = 4 * torch.randn(300, 4, 1000, generator=torch.Generator().manual_seed(1))
    draws = draws_of(300, 4)
    got = choose_tokens(logits.log_softmax(-1), draws, temperature=0.8, top_k=None, top_p=None)
    index = torch.arange(1000)
    row, slot = torch.arange(300)[:, None, None], torch.arange(4)[None, :, None]
    uniform = (counter_bits(0, 301, 0, row, slot, index).double() + 0.5) * 2.0**-32
    noise = -torch.log(-torch.log1p(-uniform))
    exact = (logits.double().log_softmax(-1) / 0.8 + noise).argmax(-1)
    assert float((got == exact).double().mean()) > 0.999


def test_scores_of_a_known_distribution() -> None:
    p = torch.tensor([[[0.7, 0.2, 0.1, 0.0], [0.25, 0.25, 0.25, 0.25]]])
    log_p, chosen, draws = p.log(), torch.tensor([[0.7, 0.25]]).log(), draws_of(1, 2)
    score = {name: function(log_p, chosen, draws)[0] for name, function in SCORES.items()}
    assert torch.equal(score["log_probability"], chosen[0])
    assert score["margin"].tolist() == pytest.approx([0.5, 0.0])
    negative_entropy = (p * p.clamp(min=1e-30).log()).sum(-1)[0]
    assert score["entropy"].tolist() == pytest.approx(negative_entropy.tolist(), rel=1e-5)
    assert len(set(score["random"].tolist())) == 2


def test_forbidden_tokens_have_no_probability() -> None:
    log_p = log_probabilities(torch.zeros(1, 1, 4).bfloat16(), torch.tensor([1, 3]))
    assert log_p.exp().flatten().tolist() == pytest.approx([0.5, 0, 0.5, 0])
    assert log_p.dtype == torch.float32
