"""A step's loss and gradient do not depend on how its rows are cut over devices and micro-batches.

Lightning averages the gradients of all parts; the parts are those of `StepSampler`.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from statistics_bounds import assert_share
from torch import Tensor, nn

from dlm.data.batches.batching import (
    BatchRequest,
    StepRows,
    StepSampler,
    TokenDataset,
    validation_requests,
)
from dlm.data.batches.order import BatchOrder
from dlm.data.rows.encoding import EncodedRows
from dlm.data.rows.masking import Masking
from dlm.diffusion.chunked_loss import TokenLosses, losses_of_logits
from dlm.diffusion.noise import ForwardProcess, NoiseKey, Times
from dlm.diffusion.objective import Normaliser, Objective
from dlm.stages.denoising import DiffusiveAdaptation
from dlm.stages.optimizer import OptimizerSettings

PROMPTS = [2, 5, 3, 2, 4, 2, 6, 2]
RESPONSES = [3, 9, 2, 14, 5, 1, 7, 11]
VOCAB, MASK, END = 20, 4, 2
CANVAS, SMOOTHING = 16, 0.1
Canvas = Literal["trained", "first_end_only"] | None
torch.set_num_threads(1)


every_normaliser = pytest.mark.parametrize(
    "normaliser", ["maskable", "masked", "tokens", "masked_tokens"]
)


class SmallNetwork(nn.Module):
    """Every token sees the mean of the row; double precision."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(VOCAB, 8, generator=generator).double())
        self.out = nn.Parameter(torch.randn(8, VOCAB, generator=generator).double())

    def hidden(
        self, tokens_BL: Tensor, valid_BL: Tensor, place_M: Tensor | None = None, **_: Any
    ) -> Tensor:
        state = self.table[tokens_BL]
        share = valid_BL / valid_BL.sum(dim=1, keepdim=True)
        hidden_BLH = state + (state * share[..., None]).sum(dim=1, keepdim=True)
        return hidden_BLH if place_M is None else hidden_BLH.flatten(0, 1)[place_M]

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.out

    def token_losses(
        self, hidden_MH: Tensor, target_M: Tensor, never: int | None = None
    ) -> TokenLosses:
        return losses_of_logits(self.logits(hidden_MH), target_M, never)


def encoded_rows(canvas: Canvas = None) -> EncodedRows:
    """Responses as long as they are, or on a canvas whose padding counts or not."""
    lengths = [p + (CANVAS if canvas else r) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    offsets = np.cumsum([0, *lengths])
    tokens = np.random.default_rng(0).integers(5, VOCAB, sum(lengths)).astype(np.int32)
    for start, prompt, response in zip(offsets[:-1], PROMPTS, RESPONSES, strict=True):
        if canvas:
            tokens[start + prompt + response - 1 : start + prompt + CANVAS] = END
    return EncodedRows(
        tokens, offsets, np.array(PROMPTS, dtype=np.int32),
        [""] * len(PROMPTS), [""] * len(PROMPTS),
        np.array(RESPONSES, dtype=np.int32) if canvas == "first_end_only" else None,
    )  # fmt: skip


def stage_of(
    network: SmallNetwork, normaliser: Normaliser, process: ForwardProcess
) -> DiffusiveAdaptation:
    return DiffusiveAdaptation(
        network, forward_process=process, mask_token_id=MASK, seed=3,  # type: ignore[arg-type]
        objective=Objective("elbo", normaliser, SMOOTHING, process.num_timesteps),
        optimizer=OptimizerSettings(lr=1e-3, steps=1),
    )  # fmt: skip


def step_of(
    normaliser: Normaliser,
    world_size: int,
    accumulate: int,
    process: ForwardProcess,
    canvas: Canvas = None,
    rows: EncodedRows | None = None,
) -> tuple[float, list[Tensor]]:
    """Loss and gradient of one step of all 8 rows, averaged over the parts as Lightning does."""
    rows = rows or encoded_rows(canvas)
    order = BatchOrder(rows.lengths, 8, seed=1, grouping=0)
    network = SmallNetwork()
    stage = stage_of(network, normaliser, process)
    trainer = SimpleNamespace(accumulate_grad_batches=accumulate, world_size=world_size)
    stage._trainer = trainer  # type: ignore[assignment]
    stage.log_training = lambda *_, **__: None  # type: ignore[method-assign]
    losses = []
    for rank in range(world_size):
        sampler = StepSampler(
            rows, order, first_step=0, accumulate=accumulate, rank=rank, world_size=world_size,
            with_step=True,
        )  # fmt: skip
        requests = iter(sampler)
        for _ in range(accumulate):
            batch = TokenDataset(rows, pad_token_id=1).__getitems__(next(requests))
            assert len(batch.tokens_BL) == 8 // (world_size * accumulate)
            losses.append(stage.training_step(batch, 0))
    mean = torch.stack(losses).mean()
    mean.backward()
    return mean.item(), [p.grad for p in network.parameters() if p.grad is not None]


@every_normaliser
@pytest.mark.parametrize("times", ["coupled", "independent", "low_discrepancy"])
@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (1, 2), (2, 2), (4, 2)])
@pytest.mark.parametrize("canvas", [None, "trained", "first_end_only"])
def test_parts_of_a_step_add_up_to_the_whole(
    normaliser: Normaliser, times: Times, world_size: int, accumulate: int, canvas: Canvas
) -> None:
    process = ForwardProcess(num_timesteps=10, times=times)
    whole, whole_gradient = step_of(normaliser, 1, 1, process, canvas)
    loss, gradient = step_of(normaliser, world_size, accumulate, process, canvas)
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
        noisy[:, prompt:] = MASK
        log_p = network.logits(network.hidden(noisy, noisy >= 0)).log_softmax(-1)[0, prompt:]
        for place, token in enumerate(clean[0, prompt:].tolist()):
            total -= 0.9 * log_p[place, token].item() + 0.1 * log_p[place].mean().item()
    assert loss == pytest.approx(total / sum(RESPONSES), rel=1e-5)


def canvas_loss_by_hand(
    normaliser: Normaliser, process: ForwardProcess, canvas: Canvas
) -> tuple[float, float, int]:
    """Loss of a step of all rows, share of right predictions and number of masks that count, row by
    row and token by token; what is noise is asked of the forward process."""
    rows, network = encoded_rows(canvas), SmallNetwork()
    total, right, masks, copies, counted_in_step = 0.0, 0, 0, process.copies, 0
    for index, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        clean = torch.from_numpy(rows.row(index).astype(np.int64))
        place = torch.arange(len(clean))
        counts = (place >= prompt) & (
            place < prompt + (CANVAS if canvas == "trained" else response)
        )
        counted_in_step += copies * int(counts.sum())
        key = NoiseKey(3, torch.tensor([index]))
        noised = process.corrupt(key, (place >= prompt)[None], place[None])
        for copy in range(copies):
            noise = noised.masked_BL[copy]
            noisy = torch.where(noise, MASK, clean)[None]
            logits = network.logits(network.hidden(noisy, noisy >= 0))[0].detach()
            log_p, row = logits.log_softmax(-1), 0.0
            here = (noise & counts).nonzero()[:, 0].tolist()
            for i in here:
                cross_entropy, uniform = -log_p[i, clean[i]].item(), -log_p[i].mean().item()
                row += (1 - SMOOTHING) * cross_entropy / noised.level.time_B[copy].item()
                row += SMOOTHING * uniform
                right += int(logits[i].argmax() == clean[i])
            masks += len(here)
            if normaliser == "maskable":
                row /= int(counts.sum())
            elif normaliser == "masked":
                row /= max(1, len(here))
            total += row
    divisor = {"tokens": counted_in_step, "masked_tokens": masks}
    loss = total / divisor.get(normaliser, copies * len(PROMPTS))
    return loss, right / masks, masks


@every_normaliser
@pytest.mark.parametrize("times", ["coupled", "independent"])
@pytest.mark.parametrize("canvas", ["trained", "first_end_only"])
def test_loss_and_accuracy_on_a_canvas_equal_the_loop(
    normaliser: Normaliser, times: Times, canvas: Canvas
) -> None:
    process = ForwardProcess(num_timesteps=10, times=times)
    expected, accuracy, masks = canvas_loss_by_hand(normaliser, process, canvas)
    whole, _ = step_of(normaliser, 1, 1, process, canvas)
    assert whole == pytest.approx(expected, rel=1e-5)
    assert step_of(normaliser, 2, 2, process, canvas)[0] == pytest.approx(expected, rel=1e-5)
    rows = encoded_rows(canvas)
    (request,) = validation_requests(rows, 8, rank=0, world_size=1)
    loss = stage_of(SmallNetwork(), normaliser, process).denoising_loss(
        TokenDataset(rows, pad_token_id=1).__getitems__(request), seed=3
    )
    # What the figures by noise level are made of.
    assert len(loss.right_M) == len(loss.cross_entropy_M) == len(loss.rate_M) == masks
    assert loss.accuracy.item() == pytest.approx(accuracy)


def test_the_two_canvas_losses_differ() -> None:
    process = ForwardProcess(num_timesteps=10)
    losses = {canvas_loss_by_hand("tokens", process, c) for c in ("trained", "first_end_only")}
    assert len(losses) == 2


def pairs_and_texts() -> EncodedRows:
    """Every other row is a text; the prompts of the others are learnt too."""
    rows = encoded_rows()
    prompts = np.where(np.arange(len(PROMPTS)) % 2, 1, rows.prompt_lengths)
    return replace(rows, prompt_lengths=prompts.astype(np.int32), masking=Masking(prompts=True))


@every_normaliser
@pytest.mark.parametrize(
    "process",
    [ForwardProcess(num_timesteps=10, times="independent"), ForwardProcess(fixed_rate=0.4)],
    ids=["drawn", "fixed"],
)
def test_loss_on_both_sides_of_pairs_and_on_texts_equals_the_loop(
    normaliser: Normaliser, process: ForwardProcess
) -> None:
    rows, network = pairs_and_texts(), SmallNetwork()
    total, maskable_in_step, masked_in_step = 0.0, 0, 0
    for index, first in enumerate(rows.prompt_lengths.tolist()):
        clean = torch.from_numpy(rows.row(index).astype(np.int64))
        special = {0, len(clean) - 1} if first == 1 else {0, first - 1}
        maskable = torch.tensor([place not in special for place in range(len(clean))])
        noised = process.corrupt(
            NoiseKey(3, torch.tensor([index])), maskable[None], torch.arange(len(clean))[None]
        )
        noise = noised.masked_BL[0]
        noisy = torch.where(noise, MASK, clean)[None]
        log_p = network.logits(network.hidden(noisy, noisy >= 0))[0].detach().log_softmax(-1)
        assert log_p.dtype == torch.float64
        weight, masked = 1 / noised.level.time_B[0].item(), noise.nonzero()[:, 0].tolist()
        loss = sum(
            (1 - SMOOTHING) * -log_p[place, clean[place]].item() * weight
            + SMOOTHING * -log_p[place].mean().item()
            for place in masked
        )
        maskable_in_step += int(maskable.sum())
        masked_in_step += len(masked)
        divisor = {"maskable": int(maskable.sum()), "masked": max(1, len(masked))}
        total += loss / divisor.get(normaliser, 1)
    whole = {"tokens": maskable_in_step, "masked_tokens": masked_in_step}
    expected = total / whole.get(normaliser, len(rows))
    for world_size, accumulate in ((1, 1), (2, 2)):
        found, _ = step_of(normaliser, world_size, accumulate, process, rows=rows)
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_masks_of_a_step_are_counted_in_any_number_of_parts() -> None:
    """Rows of every length, with their padding in parts of 20 positions or in one."""
    rows = encoded_rows()
    step = StepRows.of(rows, np.arange(8), np.arange(8))
    whole = [int(maskable.sum()) for _, maskable, _ in step.parts()]
    parts = [(place.tolist(), int(maskable.sum())) for place, maskable, _ in step.parts(20)]
    assert sum(count for _, count in parts) == whole[0] == sum(RESPONSES)
    assert sorted(row for place, _ in parts for row in place) == list(range(8))


@pytest.mark.parametrize("smoothing", [0.0, SMOOTHING])
def test_with_zero_masking_the_mask_token_takes_no_probability(smoothing: float) -> None:
    """However likely the network finds it; its output row has no gradient."""
    process = ForwardProcess(num_timesteps=10, times="independent")
    rows, losses, gradients = encoded_rows(), [], []
    (request,) = validation_requests(rows, 8, rank=0, world_size=1)
    batch = TokenDataset(rows, pad_token_id=1).__getitems__(request)
    for likely in (0.0, 5.0):
        network = SmallNetwork()
        with torch.no_grad():
            network.out[:, MASK] += likely
        stage = stage_of(network, "tokens", process)
        stage.objective = replace(stage.objective, label_smoothing=smoothing, zero_masking=True)
        loss = stage.denoising_loss(batch, seed=3).total
        loss.backward()
        losses.append(loss.item())
        assert network.out.grad is not None
        gradients.append(network.out.grad)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert not gradients[0][:, MASK].any() and gradients[0][:, MASK + 1].any()
    stage.objective = replace(stage.objective, zero_masking=False)
    assert stage.denoising_loss(batch, seed=3).total.item() > losses[0]


@pytest.mark.parametrize("times", ["coupled", "independent"])
def test_prompt_dropout_masks_whole_prompts_of_its_share_of_the_rows(times: Times) -> None:
    """The same rows in any batch, and both copies of a row; validation keeps all prompts."""
    process, seen = ForwardProcess(num_timesteps=10, times=times), []
    network = SmallNetwork()
    hidden = network.hidden

    def watched(
        tokens_BL: Tensor, valid_BL: Tensor, place_M: Tensor | None = None, **more: Any
    ) -> Tensor:
        seen.append(tokens_BL)
        return hidden(tokens_BL, valid_BL, place_M, **more)

    network.hidden = watched  # type: ignore[method-assign]
    rows = encoded_rows()
    stage = stage_of(network, "tokens", process)
    stage.prompt_dropout = 0.4

    def dropped(positions: Sequence[int], *, training: bool = True) -> list[bool]:
        """Whether each row's prompt is masked; it is as a whole, or it is as it was."""
        count = len(positions)
        request = BatchRequest(np.array(positions), np.arange(count), count, 99)
        batch = TokenDataset(rows, pad_token_id=1).__getitems__(request)
        stage.train(training).denoising_loss(batch, seed=3)
        found = []
        for row, tokens in enumerate(seen.pop()):
            place = row % count
            prompt = tokens[: PROMPTS[positions[place] % 8]].tolist()
            clean = batch.tokens_BL[place, : len(prompt)].tolist()
            assert prompt in (clean, [MASK] * len(prompt))
            found.append(prompt != clean)
        assert found[:count] * process.copies == found
        return found[:count]

    many = dropped(range(800))
    assert_share(torch.tensor(many), torch.full((800,), 0.4, dtype=torch.float64))
    assert [dropped([n])[0] for n in range(8)] == many[:8]
    assert not any(dropped(range(8), training=False))
    stage.prompt_dropout = 0.0
    assert not any(dropped(range(8)))
