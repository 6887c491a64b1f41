"""A training step on packed rows: the losses and gradients of the padded step."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from dlm.data.batches.batching import BatchRequest, TokenBatch, TokenDataset
from dlm.data.rows.encoding import EncodedRows
from dlm.data.rows.masking import PLAIN, Masking
from dlm.diffusion.noise import ForwardProcess, Times
from dlm.diffusion.objective import Normaliser, Objective
from dlm.models.attention.annealing import Annealing
from dlm.models.backbone import Backbone
from dlm.stages.autoregressive import AutoregressiveTwin
from dlm.stages.base import TrainingStage
from dlm.stages.denoising import DenoisingStage
from dlm.stages.optimizer import OptimizerSettings

PROMPTS, RESPONSES = [2, 5, 3, 2, 4, 2, 6, 2], [3, 9, 2, 14, 5, 2, 7, 11]
OPTIMIZER = OptimizerSettings(lr=1e-3, steps=1)
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}
times = pytest.mark.parametrize("times", ["coupled", "independent", "low_discrepancy"])
normalisers = pytest.mark.parametrize("normaliser", ["maskable", "masked", "tokens"])


def batch(conditional: bool, packed: bool, masking: Masking = PLAIN) -> TokenBatch:
    """``masking`` of both sides: texts beside pairs."""
    lengths = [p + r for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    tokens = np.random.default_rng(0).integers(5, 40, sum(lengths)).astype(np.int32)
    prompts = PROMPTS if conditional else [1] * len(PROMPTS)
    if masking.prompts:  # and texts beside pairs
        prompts = [*PROMPTS[:5], 1, 1, 1]
    rows = EncodedRows(
        tokens, np.cumsum([0, *lengths]), np.array(prompts, dtype=np.int32),
        [""] * len(PROMPTS), [""] * len(PROMPTS), masking=masking,
    )  # fmt: skip
    counted = int(rows.counted_lengths.sum())
    request = BatchRequest(np.arange(8), np.arange(8)[::-1].copy(), 8, counted)
    made = TokenDataset(rows, 1, 24 if packed else None).__getitems__(request)
    assert (made.packing is not None and made.packing.rows < 8) == packed
    return made


def network(model_type: str, **options: Any) -> Backbone:
    config = AutoConfig.for_model(
        model_type, vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=40, initializer_range=0.2, **options,
    )  # fmt: skip
    kind = AutoModelForCausalLM if model_type == "gpt2" else AutoModelForMaskedLM
    torch.manual_seed(0)
    return Backbone(kind.from_config(config).train())


def bert() -> Backbone:
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return network("bert", intermediate_size=32, **rates)


def gpt2(pattern: str) -> Backbone:
    backbone = network("gpt2", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    backbone.attention = pattern  # type: ignore[assignment]
    backbone.annealing, backbone.step = Annealing(steps=10, seed=0), 4
    return backbone


def step(stage: TrainingStage, made: TokenBatch) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients."""
    stage._trainer = SimpleNamespace(accumulate_grad_batches=1, world_size=1)  # type: ignore[assignment]
    stage.log_training = lambda *_, **__: None  # type: ignore[method-assign]
    stage.zero_grad()
    loss = stage.training_step(made, 0)
    assert isinstance(loss, Tensor)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in stage.parameters() if p.grad is not None]


def assert_the_same_packed(
    stage: TrainingStage, conditional: bool, masking: Masking = PLAIN
) -> None:
    loss, gradients = step(stage, batch(conditional, False, masking))
    packed_loss, packed_gradients = step(stage, batch(conditional, True, masking))
    assert loss > 0 and len(gradients) > 10
    torch.testing.assert_close(packed_loss, loss, **CLOSE)
    for found, expected in zip(packed_gradients, gradients, strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


def denoising(backbone: Backbone, **changes: Any) -> DenoisingStage:
    settings: dict[str, Any] = {
        "forward_process": ForwardProcess(num_timesteps=10), "objective": Objective(),
        "mask_token_id": 4, "optimizer": OPTIMIZER, "seed": 3,
    }  # fmt: skip
    return DenoisingStage(backbone, **{**settings, **changes})


@normalisers
@times
def test_adaptation_of_a_masked_language_model(normaliser: Normaliser, times: Times) -> None:
    process = ForwardProcess(num_timesteps=10, times=times)
    objective = Objective("cart", normaliser, 0.1)
    stage = denoising(bert(), forward_process=process, objective=objective)
    assert_the_same_packed(stage, conditional=True)


def test_pretraining_with_berts_rule() -> None:
    process = ForwardProcess(fixed_rate=0.4)
    stage = denoising(bert(), forward_process=process, replaceable_ids=(7, 8, 9))
    assert_the_same_packed(stage, conditional=False)


@normalisers
def test_pretraining_on_both_sides_of_pairs_beside_texts(normaliser: Normaliser) -> None:
    stage = denoising(bert(), objective=Objective("constant", normaliser))
    assert_the_same_packed(stage, conditional=True, masking=Masking(prompts=True))


@pytest.mark.parametrize("pattern", ["bidirectional", "prefix_lm"])
def test_adaptation_of_a_causal_language_model_that_is_being_annealed(pattern: str) -> None:
    assert_the_same_packed(denoising(gpt2(pattern)), conditional=True)


def test_the_twin() -> None:
    twin = AutoregressiveTwin(bert(), label_smoothing=0.1, optimizer=OPTIMIZER, seed=0)
    assert_the_same_packed(twin, conditional=True)


@pytest.mark.parametrize("ends", [True, False], ids=["texts", "blocks"])
def test_the_twin_learns_every_token_of_a_text_from_those_before(ends: bool) -> None:
    """Each prefix on its own through the network; the end of a block is not a text's."""
    backbone = bert()
    twin = AutoregressiveTwin(backbone, label_smoothing=0.0, optimizer=OPTIMIZER, seed=0)
    masking = Masking(text_ends=ends)
    made = batch(conditional=False, packed=False, masking=masking)
    losses = []
    with torch.no_grad():
        for tokens_L, valid_L in zip(made.tokens_BL, made.valid_BL, strict=True):
            row_1L = tokens_L[valid_L][None]
            for place in range(1, row_1L.shape[1] - (0 if ends else 1)):
                prefix_1L = row_1L[:, :place]
                hidden_1LH = backbone.hidden(
                    prefix_1L, torch.ones_like(prefix_1L, dtype=torch.bool), attention="causal"
                )
                log_p_V = backbone.logits(hidden_1LH[:, -1]).log_softmax(-1)[0]
                losses.append(-log_p_V[row_1L[0, place]])
    loss, _ = step(twin, made)
    torch.testing.assert_close(loss, torch.stack(losses).mean(), **CLOSE)
    assert made.global_maskable == len(losses)
    assert_the_same_packed(twin, conditional=False, masking=masking)


def test_the_share_of_padding_is_that_of_what_the_network_is_given() -> None:
    padded, packed = batch(True, False), batch(True, True)
    tokens = sum(PROMPTS) + sum(RESPONSES)
    assert float(padded.padding_share) == pytest.approx(1 - tokens / (8 * 16))
    assert packed.packing is not None
    area = packed.packing.rows * packed.packing.width
    assert float(packed.padding_share) == pytest.approx(1 - tokens / area)
    assert packed.padding_share < padded.padding_share / 2


def test_the_plan_moves_with_its_batch() -> None:
    moved = batch(True, True).to("meta")
    assert moved.packing is not None and moved.packing.row_B.device.type == "meta"
    assert moved.packing.start_B.device.type == "meta"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_in_chunks_change_nothing(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(label_smoothing=smoothing)
    stages = [
        denoising(bert(), objective=objective),
        AutoregressiveTwin(bert(), label_smoothing=smoothing, optimizer=OPTIMIZER, seed=0),
    ]
    for stage in stages:
        loss, gradients = step(stage, batch(True, packed=False))
        chunks = Mock(return_value=3)
        with monkeypatch.context() as patched:
            patched.setattr("dlm.models.backbone.rows_at_a_time", chunks)
            chunked_loss, chunked_gradients = step(stage, batch(True, packed=False))
        assert chunks.called and loss > 0
        torch.testing.assert_close(chunked_loss, loss, **CLOSE)
        for found, expected in zip(chunked_gradients, gradients, strict=True):
            torch.testing.assert_close(found, expected, **CLOSE)
