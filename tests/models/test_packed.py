"""Packed rows: every document's states are those of the document alone."""

from typing import Any

import numpy as np
import pytest
import torch
from test_attention import response_of
from tiny_backbones import ENCODERS, padded, random_rows, tiny_backbone
from tiny_causal import CAUSAL, causal_backbone
from torch import Tensor
from transformers import AutoModelForMaskedLM, ModernBertConfig

from dlm.data.batches.packing import plan_packing
from dlm.models.attention.annealing import Annealing
from dlm.models.backbone import Backbone
from dlm.models.packed import Packing

CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}
LENGTHS, PROMPTS = [9, 3, 7, 1, 12, 4, 5], [4, 1, 3, 1, 11, 4, 2]
every_family = pytest.mark.parametrize("family", [*ENCODERS, *CAUSAL])
every_pattern = pytest.mark.parametrize(
    "pattern", ["bidirectional", "prefix_lm", "causal", "prefix_causal"]
)


def backbone_of(family: str) -> Backbone:
    return causal_backbone(family) if family in CAUSAL else tiny_backbone(family)


def plan(width: int = 20, lengths: list[int] = LENGTHS) -> Packing:
    return plan_packing(np.array(lengths), width)


def states(
    backbone: Backbone, rows: list[list[int]], prompts: list[int], pattern: str,
    packing: Packing | None = None, side: str = "right",
) -> list[Tensor]:  # fmt: skip
    """States of each row's own tokens."""
    tokens, valid = padded(rows, side)
    hidden = backbone.hidden(
        tokens, valid, attention=pattern,  # type: ignore[arg-type]
        response_BL=response_of(prompts, valid), packing=packing,
    )  # fmt: skip
    assert hidden.shape[:2] == tokens.shape and hidden.isfinite().all()
    return [hidden[number, valid[number]] for number in range(len(rows))]


@every_family
@every_pattern
@torch.no_grad()
def test_logits_of_a_packed_document_are_those_of_the_document_alone(
    family: str, pattern: str
) -> None:
    backbone, rows = backbone_of(family), random_rows(LENGTHS)
    packing = plan()
    assert packing.rows == 3 < len(rows)
    for side in ("right", "left"):
        packed = states(backbone, rows, PROMPTS, pattern, packing, side)
        for row, prompt, found in zip(rows, PROMPTS, packed, strict=True):
            (alone,) = states(backbone, [row], [prompt], pattern)
            torch.testing.assert_close(backbone.logits(found), backbone.logits(alone), **CLOSE)


@every_family
@every_pattern
def test_gradients_are_those_of_padded_rows(family: str, pattern: str) -> None:
    backbone, rows = backbone_of(family), random_rows(LENGTHS)
    gradients = []
    for packing in (None, plan()):
        backbone.zero_grad()
        torch.cat(states(backbone, rows, PROMPTS, pattern, packing)).square().mean().backward()
        gradients.append([p.grad.clone() for p in backbone.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("pattern", ["bidirectional", "prefix_lm"])
@pytest.mark.parametrize("family", CAUSAL)
@torch.no_grad()
def test_annealing_hides_the_same_of_a_packed_document(family: str, pattern: str) -> None:
    backbone, rows = causal_backbone(family).train(), random_rows(LENGTHS)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    unannealed = states(backbone, rows, PROMPTS, pattern, plan())
    backbone.annealing, backbone.step = Annealing(steps=10, seed=0), 4
    packed = states(backbone, rows, PROMPTS, pattern, plan())
    assert not torch.allclose(packed[0], unannealed[0], atol=1e-3)
    for row, prompt, found in zip(rows, PROMPTS, packed, strict=True):
        torch.testing.assert_close(found, states(backbone, [row], [prompt], pattern)[0], **CLOSE)


@every_family
@torch.no_grad()
def test_a_document_does_not_feel_its_neighbours(family: str) -> None:
    backbone, rows = backbone_of(family), random_rows([6, 6, 6])
    packing = plan(18, [6, 6, 6])
    assert packing.rows == 1
    before = states(backbone, rows, [3, 3, 3], "bidirectional", packing)
    rows[1] = [5 if token != 5 else 6 for token in rows[1]]
    after = states(backbone, rows, [3, 3, 3], "bidirectional", packing)
    assert torch.equal(before[0], after[0]) and torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], after[1], atol=1e-2)


def windowed(layers: int) -> Backbone:
    """ModernBERT whose layers see 4 positions to either side; of two layers the first sees all."""
    config = ModernBertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, local_attention=8, pad_token_id=1,
        layer_types=["full_attention", "sliding_attention"][-layers:],
    )  # fmt: skip
    network = AutoModelForMaskedLM.from_config(config, attn_implementation="sdpa").eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.dim() >= 2:
            parameter.data.normal_(0, 0.3, generator=generator)
    return Backbone(network)


@torch.no_grad()
def test_layers_of_narrow_sight_keep_their_window_in_packed_rows() -> None:
    backbone, rows = windowed(2), random_rows([30, 13, 21])
    tokens, valid = padded(rows)
    theirs = backbone.network(input_ids=tokens, attention_mask=valid.long()).logits
    packed = states(backbone, rows, [1, 1, 1], "bidirectional", plan(64, [30, 13, 21]))
    for number, found in enumerate(packed):
        expected = theirs[number, valid[number]]
        torch.testing.assert_close(backbone.logits(found), expected, **CLOSE)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pattern", ["bidirectional", "prefix_lm", "prefix_causal"])
@torch.no_grad()
def test_layers_of_narrow_sight_do_not_see_beyond_their_window(pattern: str, packed: bool) -> None:
    backbone, rows = windowed(1), random_rows([30, 5])
    packing = plan(40, [30, 5]) if packed else None
    before = states(backbone, rows, [20, 2], pattern, packing)[0]
    rows[0][10] = 5 if rows[0][10] != 5 else 6
    after = states(backbone, rows, [20, 2], pattern, packing)[0]
    moved = ((before - after).abs().amax(-1) > 1e-6).nonzero().flatten().tolist()
    assert moved == list(range(6, 15))


def test_copies_of_a_batch_are_packed_one_after_the_other() -> None:
    twice = plan().repeat(2)
    assert (twice.rows, twice.width) == (6, plan().width)
    _, valid = padded(random_rows(LENGTHS))
    places = twice.places(valid.repeat(2, 1))
    once = plan().places(valid)
    half = places.source_RW[3:]
    assert torch.equal(places.source_RW[:3], once.source_RW)
    assert torch.equal(half.clamp(min=0), (once.source_RW + valid.numel()) * (half >= 0))
