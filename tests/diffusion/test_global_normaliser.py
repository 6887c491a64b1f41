"""A step's loss and gradient do not depend on how its rows are cut over devices and micro-batches.

Lightning averages the gradients of all parts; the parts are those of `StepSampler`.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlm.data.batching import StepSampler, TokenDataset
from dlm.data.encoding import EncodedRows
from dlm.data.order import BatchOrder
from dlm.diffusion.noise import ForwardProcess, Times
from dlm.diffusion.objective import Normaliser, Objective
from dlm.stages.adapt import DiffusiveAdaptation
from dlm.stages.optimizer import OptimizerSettings

PROMPTS = [2, 5, 3, 1, 4, 2, 6, 1]
RESPONSES = [3, 9, 2, 14, 5, 1, 7, 11]
VOCAB = 20
torch.set_num_threads(1)


class SmallNetwork(nn.Module):
    """Every token sees the mean of the row; double precision."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(VOCAB, 8, generator=generator).double())
        self.out = nn.Parameter(torch.randn(8, VOCAB, generator=generator).double())

    def hidden(self, tokens_BL: Tensor, valid_BL: Tensor, **_: Any) -> Tensor:
        state = self.table[tokens_BL]
        share = valid_BL / valid_BL.sum(dim=1, keepdim=True)
        return state + (state * share[..., None]).sum(dim=1, keepdim=True)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.out


def encoded_rows() -> EncodedRows:
    lengths = [p + r for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    tokens = np.random.default_rng(0).integers(5, VOCAB, sum(lengths)).astype(np.int32)
    return EncodedRows(
        tokens, np.cumsum([0, *lengths]), np.array(PROMPTS, dtype=np.int32), True,
        [""] * len(PROMPTS), [""] * len(PROMPTS),
    )  # fmt: skip


def step_of(
    normaliser: Normaliser, world_size: int, accumulate: int, process: ForwardProcess
) -> tuple[float, list[Tensor]]:
    """Loss and gradient of one step of all 8 rows, averaged over the parts as Lightning does."""
    rows = encoded_rows()
    order = BatchOrder(rows.lengths, 8, seed=1, grouping=0)
    network = SmallNetwork()
    stage = DiffusiveAdaptation(
        network, forward_process=process, mask_token_id=4, seed=3,
        objective=Objective("elbo", normaliser, 0.1, process.num_timesteps),
        optimizer=OptimizerSettings(lr=1e-3, steps=1),
    )  # fmt: skip
    stage._trainer = SimpleNamespace(accumulate_grad_batches=accumulate, world_size=world_size)
    stage.log_training = lambda *_, **__: None  # type: ignore[method-assign]
    losses = []
    for rank in range(world_size):
        sampler = StepSampler(
            rows, order, first_step=0, accumulate=accumulate, rank=rank, world_size=world_size
        )
        requests = iter(sampler)
        for _ in range(accumulate):
            batch = TokenDataset(rows, pad_token_id=1).__getitems__(next(requests))
            assert len(batch.tokens_BL) == 8 // (world_size * accumulate)
            losses.append(stage.training_step(batch, 0))
    mean = torch.stack(losses).mean()
    mean.backward()
    return mean.item(), [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("normaliser", ["maskable", "masked", "tokens"])
@pytest.mark.parametrize("times", ["coupled", "independent", "low_discrepancy"])
@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (1, 2), (2, 2), (4, 2)])
def test_parts_of_a_step_add_up_to_the_whole(
    normaliser: Normaliser, times: Times, world_size: int, accumulate: int
) -> None:
    process = ForwardProcess(num_timesteps=10, times=times)
    whole, whole_gradient = step_of(normaliser, 1, 1, process)
    loss, gradient = step_of(normaliser, world_size, accumulate, process)
    assert whole > 0 and len(gradient) == 2
    assert loss == pytest.approx(whole, rel=1e-5)
    for part, expected in zip(gradient, whole_gradient, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("times", ["coupled", "independent", "low_discrepancy"])
def test_tokens_normaliser_divides_by_the_maskable_tokens_of_the_whole_step(times: Times) -> None:
    """With every token masked at t = T the loss is the plain mean cross-entropy."""
    process = ForwardProcess(num_timesteps=1, times=times)
    loss, _ = step_of("tokens", 2, 2, process)
    rows, network = encoded_rows(), SmallNetwork()
    total = 0.0
    for index, prompt in enumerate(PROMPTS):
        clean = torch.from_numpy(rows.row(index).astype(np.int64))[None]
        noisy = clean.clone()
        noisy[:, prompt:] = 4
        log_p = network.logits(network.hidden(noisy, noisy >= 0)).log_softmax(-1)[0, prompt:]
        for place, token in enumerate(clean[0, prompt:].tolist()):
            total -= 0.9 * log_p[place, token].item() + 0.1 * log_p[place].mean().item()
    assert loss == pytest.approx(total / sum(RESPONSES), rel=1e-5)
