"""The likeliest token, a part of the vocabulary at a time, against the whole of it."""

import pytest
import torch

from dlm.diffusion.sampling import likeliest as module
from dlm.diffusion.sampling.choice import log_probabilities
from dlm.diffusion.sampling.likeliest import likeliest, likeliest_of_logits


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("logits", [1, 40, 10_000])
def test_parts_give_what_the_whole_vocabulary_gives(
    bias: bool, logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of one token, of several, of all; some hold forbidden tokens alone."""
    monkeypatch.setitem(module._LOGITS, "cpu", logits)
    monkeypatch.setattr(module, "_ROWS", 4)
    generator = torch.Generator().manual_seed(0)
    state_SH = torch.randn(11, 6, generator=generator)
    weight_VH = torch.randn(30, 6, generator=generator)
    bias_V = torch.randn(30, generator=generator) if bias else None
    forbidden = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 21, 29])
    log_p_SV = log_probabilities(torch.nn.functional.linear(state_SH, weight_VH, bias_V), forbidden)
    tokens_S, log_p_S = likeliest(state_SH, weight_VH, bias_V, forbidden)
    assert torch.equal(tokens_S, log_p_SV.argmax(-1))
    torch.testing.assert_close(log_p_S, log_p_SV.amax(-1))


def test_of_equals_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._LOGITS, "cpu", 2)
    state_SH, weight_VH = torch.ones(1, 2), torch.ones(9, 2)
    forbidden = torch.tensor([0, 1, 2])
    tokens_S, log_p_S = likeliest(state_SH, weight_VH, None, forbidden)
    assert tokens_S.tolist() == [3]
    torch.testing.assert_close(log_p_S, torch.tensor([1 / 6]).log())
    assert likeliest_of_logits(torch.ones(1, 9), forbidden)[0].tolist() == [3]


def test_large_logits_do_not_overflow() -> None:
    tokens_S, log_p_S = likeliest(
        torch.tensor([[1e4]]), torch.tensor([[1.0], [-1.0], [0.999]]), None, torch.tensor([1])
    )
    assert tokens_S.tolist() == [0]
    assert -1e-3 < float(log_p_S) <= 0
