"""Losses in chunks are those of one matrix of logits, and so are their gradients."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dlm.diffusion.chunked_loss import (
    TokenLosses,
    chunked_losses,
    losses_of_logits,
    rows_at_a_time,
)

TOKENS, WIDTH, VOCABULARY = 11, 6, 17


def inputs(
    dtype: torch.dtype, tokens: int = TOKENS
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Hidden states, weight and bias that want gradients, and targets."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(tokens, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,)]
    made = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    target = torch.randint(VOCABULARY, (tokens,), generator=generator)
    hidden, weight, bias = (tensor.to(dtype).requires_grad_() for tensor in made)
    return (hidden, weight, bias), target


def gradients(
    losses: TokenLosses, wanted: Sequence[Tensor], smoothing: float
) -> tuple[Tensor, ...]:
    """Of a sum with another weight for every token."""
    weight = torch.linspace(-1, 2, len(losses.right_M), dtype=losses.cross_entropy_M.dtype)
    total = (weight * losses.cross_entropy_M).sum()
    if smoothing:
        total = total + smoothing * (weight.flip(0) * losses.smoothing_M).sum()
    return torch.autograd.grad(total, wanted)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("rows", [1, 4, 11, 50])
def test_float64_losses_and_gradients_are_those_of_plain_formulas(
    rows: int, smoothing: float
) -> None:
    wanted, target = inputs(torch.float64)
    logits = F.linear(*wanted)
    log_p = logits.log_softmax(-1)
    expected = TokenLosses(
        F.cross_entropy(logits, target, reduction="none"), -log_p.mean(-1),
        (logits.argmax(-1) == target).double(),
    )  # fmt: skip
    found = chunked_losses(*wanted, target, rows=rows)
    close: dict[str, Any] = {"atol": 1e-12, "rtol": 1e-12}
    torch.testing.assert_close(found.cross_entropy_M, expected.cross_entropy_M, **close)
    torch.testing.assert_close(found.smoothing_M, expected.smoothing_M, **close)
    assert torch.equal(found.right_M, expected.right_M)
    torch.testing.assert_close(
        gradients(found, wanted, smoothing), gradients(expected, wanted, smoothing), **close
    )


@pytest.mark.parametrize("rows", [4, 50])
@pytest.mark.parametrize("never", [0, 2])
def test_a_token_that_is_never_predicted_is_as_if_it_were_not_there(rows: int, never: int) -> None:
    (hidden, weight, bias), target = inputs(torch.float64)
    kept = torch.arange(len(weight)) != never
    target = torch.where(target == never, 1, target)
    place = target - (target > never).long()
    wanted = (hidden, weight, bias)
    for form, tolerance in (("chunked", 1e-12), ("one matrix", 1e-5)):
        logits = F.linear(hidden, weight[kept], bias[kept])
        log_p = logits.log_softmax(-1)
        expected = TokenLosses(
            F.cross_entropy(logits, place, reduction="none"), -log_p.mean(-1),
            (logits.argmax(-1) == place).double(),
        )  # fmt: skip
        found = (
            chunked_losses(hidden, weight, bias, target, rows=rows, never=never)
            if form == "chunked"
            else losses_of_logits(F.linear(hidden, weight, bias), target, never)
        )
        close: dict[str, Any] = {"atol": tolerance, "rtol": tolerance, "check_dtype": False}
        torch.testing.assert_close(found.cross_entropy_M, expected.cross_entropy_M, **close)
        torch.testing.assert_close(found.smoothing_M, expected.smoothing_M, **close)
        assert torch.equal(found.right_M.double(), expected.right_M)
        torch.testing.assert_close(
            gradients(found, wanted, 0.3), gradients(expected, wanted, 0.3), **close
        )


def test_numerical_gradients_agree() -> None:
    (hidden, weight, bias), target = inputs(torch.float64, 3)

    def both(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        losses = chunked_losses(hidden, weight, bias, target, rows=2)
        return losses.cross_entropy_M, losses.smoothing_M

    assert torch.autograd.gradcheck(both, (hidden, weight, bias))


def test_an_output_layer_that_is_frozen_and_has_no_bias() -> None:
    (hidden, weight, _), target = inputs(torch.float64)
    frozen = weight.detach()
    found = chunked_losses(hidden, frozen, None, target, rows=4)
    expected = F.cross_entropy(hidden @ frozen.T, target, reduction="none")
    torch.testing.assert_close(
        torch.autograd.grad(found.cross_entropy_M.sum(), hidden),
        torch.autograd.grad(expected.sum(), hidden),
    )


def test_only_the_smoothing_term_wants_a_gradient() -> None:
    wanted, target = inputs(torch.float64)
    found = chunked_losses(*wanted, target, rows=4)
    expected = -F.linear(*wanted).log_softmax(-1).mean(-1)
    torch.testing.assert_close(
        torch.autograd.grad(found.smoothing_M.sum(), wanted),
        torch.autograd.grad(expected.sum(), wanted),
    )


def test_under_autocast_the_losses_are_float32_of_products_in_bfloat16() -> None:
    wanted, target = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = chunked_losses(*wanted, target, rows=4)
        expected = losses_of_logits(F.linear(*wanted), target)
    assert found.cross_entropy_M.dtype == torch.float32
    torch.testing.assert_close(found.cross_entropy_M, expected.cross_entropy_M)
    assert torch.equal(found.right_M, expected.right_M)
    for one, other in zip(
        gradients(found, wanted, 0.3), gradients(expected, wanted, 0.3), strict=True
    ):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=0.05, rtol=0.02)  # sums rounded in bfloat16


def test_nothing_is_masked() -> None:
    wanted, target = inputs(torch.float32, 0)
    found = chunked_losses(*wanted, target, rows=4)
    assert found.cross_entropy_M.shape == found.right_M.shape == (0,)
    assert all(g.eq(0).all() for g in torch.autograd.grad(found.cross_entropy_M.sum(), wanted))


def test_chunks_begin_where_one_matrix_would_be_large_and_stay_small_themselves() -> None:
    assert rows_at_a_time(2048, 32_768, "cpu") is None
    assert rows_at_a_time(2049, 32_768, "cpu") == 256
    assert rows_at_a_time(2049, 32_768, "cuda") is None
    assert rows_at_a_time(10_000, 250_002, "cuda") == 536
    assert rows_at_a_time(3, 2**29, "cuda") == 1
