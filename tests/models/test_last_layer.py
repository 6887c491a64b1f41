"""States that are read are those of the whole network, and the last layer computes no others."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tiny_backbones import ARCHITECTURES, ENCODERS, padded, random_rows, tiny_backbone
from tiny_causal import CAUSAL, causal_backbone
from torch import Tensor, nn

from dlm.data.batches.packing import plan_packing
from dlm.models.backbone import Backbone
from dlm.models.build import recompute_activations

LENGTHS = [6, 9, 4]
PLACES = [1, 3, 9, 14, 20, 21]
"""Of three rows padded to nine: none is padding."""
every_pattern = pytest.mark.parametrize(
    "pattern", ["bidirectional", "prefix_lm", "causal", "prefix_causal"]
)
every_layout = pytest.mark.parametrize("packed", [False, True])


def batch(packed: bool) -> tuple[Tensor, Tensor, dict[str, Any]]:
    tokens, valid = padded(random_rows(LENGTHS))
    response = valid & (torch.arange(9) > 1)
    packing = plan_packing(np.array(LENGTHS), 16) if packed else None
    return tokens, valid, {"response_BL": response, "packing": packing}


def read(backbone: Backbone, packed: bool, pattern: Any, places: list[int] = PLACES) -> Tensor:
    tokens, valid, options = batch(packed)
    place = torch.tensor(places, dtype=torch.int64)
    return backbone.hidden(tokens, valid, attention=pattern, place_M=place, **options)


def whole(backbone: Backbone, packed: bool, pattern: Any) -> Tensor:
    tokens, valid, options = batch(packed)
    return backbone.hidden(tokens, valid, attention=pattern, **options).flatten(0, 1)[PLACES]


def last_norm_rows(backbone: Backbone) -> list[int]:
    """How many tokens the last norm of the last layer sees, at every call from now on."""
    body: Any = backbone.network.base_model
    seen: list[int] = []
    layer = body.encoder.layer[-1].output if hasattr(body, "encoder") else body.layers[-1]
    norm: nn.Module = next(
        getattr(layer, name)
        for name in ("LayerNorm", "mlp_norm", "post_attention_layernorm")
        if hasattr(layer, name)
    )
    norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][..., 0].numel()))
    return seen


@pytest.mark.parametrize("family", [*ENCODERS, *CAUSAL])
@every_pattern
@every_layout
def test_states_and_gradients_are_those_of_the_whole_network(
    family: str, pattern: str, packed: bool
) -> None:
    backbone = causal_backbone(family) if family in CAUSAL else tiny_backbone(family)
    gradients = []
    found, expected = read(backbone, packed, pattern), whole(backbone, packed, pattern)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for states in (found, expected):
        parameters = list(backbone.network.base_model.parameters())
        gradients.append(torch.autograd.grad((states**3).sum(), parameters, allow_unused=True))
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@every_layout
@torch.no_grad()
def test_the_last_layer_computes_no_others(architecture: str, packed: bool) -> None:
    backbone = tiny_backbone(architecture)
    seen = last_norm_rows(backbone)
    assert read(backbone, packed, "bidirectional").shape == (len(PLACES), 16)
    assert read(backbone, packed, "bidirectional", []).shape == (0, 16)
    assert seen == [len(PLACES), 0]
    whole(backbone, packed, "bidirectional")
    assert seen[2] > sum(LENGTHS) - 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layers_that_are_computed_again_read_the_same(architecture: str) -> None:
    gradients = []
    for recomputed in (False, True):
        backbone = tiny_backbone(architecture, dropout=0.0).train()
        if recomputed:
            recompute_activations(backbone.network)
        read(backbone, True, "bidirectional").square().mean().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.grad is not None])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
@torch.no_grad()
def test_a_copy_reads_its_own_layer_and_a_second_backbone_the_same(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    expected = read(backbone, True, "bidirectional")
    again = copy.deepcopy(backbone)
    assert torch.equal(read(Backbone(backbone.network), True, "bidirectional"), expected)
    for parameter in again.parameters():
        parameter.zero_()
    assert torch.equal(read(backbone, True, "bidirectional"), expected)
    assert not torch.equal(read(again, True, "bidirectional"), expected)
