"""Attention of packed rows: that of every document alone, and what stands in its way."""

import inspect
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_backbones import ENCODERS, OWN_ATTENTION, padded, random_rows, tiny_backbone
from tiny_causal import CAUSAL, causal_backbone
from torch import Tensor

from dlm.data.batches.packing import plan_packing
from dlm.errors import UserError
from dlm.models.attention import documents as where_documents_lie
from dlm.models.attention import packed as packed_attention
from dlm.models.attention.annealing import Annealing
from dlm.models.attention.documents import Documents, bounds, documents_of
from dlm.models.attention.packed import attention, obstacle
from dlm.models.backbone import Backbone
from dlm.models.build import recompute_activations
from dlm.models.packed import Packing

LENGTHS = [9, 3, 7, 1, 12, 4, 5, 12]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
layouts = pytest.mark.parametrize("causal", [False, True])
every_kernel = pytest.mark.parametrize(
    "family", [family for family in [*ENCODERS, *CAUSAL] if family not in OWN_ATTENTION]
)
windows = pytest.mark.parametrize("window", [None, 2, 50])


def plan() -> tuple[Packing, Tensor]:
    """A layout with gaps between its documents: some rows are shorter than planned."""
    packing = plan_packing(np.array(LENGTHS), 20)
    lengths = torch.tensor(LENGTHS) - torch.tensor([1, 0, 0, 0, 0, 1, 0, 0])
    return packing, torch.arange(12) < lengths[:, None]


def heads(packing: Packing, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (packing.rows, count, packing.width, 4)
    return torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()


def alone(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, window: int | None, scale: float
) -> Tensor:
    """One document [heads, L, D] by the formula, one query at a time."""
    out = torch.empty_like(query)
    for head in range(query.shape[0]):
        shared = head * key.shape[0] // query.shape[0]
        for place in range(query.shape[1]):
            seen = [
                other
                for other in range(query.shape[1])
                if not (causal and other > place)
                and (window is None or abs(other - place) <= window)
            ]
            score = (key[shared, seen] @ query[head, place] * scale).exp()
            out[head, place] = (score / score.sum()) @ value[shared, seen]
    return out


def assert_each_document_alone(
    documents: Documents, packing: Packing, valid: Tensor, window: int | None,
    prompts: list[int] | None = None,
) -> None:  # fmt: skip
    """Outputs and gradients, of shared key heads too; ``prompts``: lengths of those that see
    themselves alone."""
    module = torch.nn.Module()
    inputs = heads(packing, 4, 0), heads(packing, 2, 1), heads(packing, 2, 2)
    scale = 0.3
    found, _ = attention(
        module, *inputs, None, scaling=scale, documents=documents,
        sliding_window=None if window is None else window + 1,
    )  # fmt: skip
    total_found = total = torch.zeros((), dtype=torch.float64)
    for document, length in enumerate(valid.sum(1).tolist()):
        row, start = int(packing.row_B[document]), int(packing.start_B[document])
        own = slice(start, start + length)
        query, key, value = (tensor[row, :, own] for tensor in inputs)
        expected = alone(query, key, value, documents.causal, window, scale)
        if prompts:
            end = prompts[document]
            prompt = alone(query[:, :end], key[:, :end], value[:, :end], False, window, scale)
            expected = torch.cat([prompt, expected[:, end:]], dim=1)
        torch.testing.assert_close(found[row, own].transpose(0, 1), expected)
        total_found = total_found + (found[row, own] ** 3).sum()
        total = total + (expected**3).sum()
    torch.testing.assert_close(
        torch.autograd.grad(total_found, inputs), torch.autograd.grad(total, inputs)
    )


@layouts
@windows
def test_groups_attend_as_each_document_does_alone(causal: bool, window: int | None) -> None:
    packing, valid = plan()
    documents = documents_of(packing, valid, "causal" if causal else "bidirectional", window=window)
    assert 1 < len(documents.groups) < len(LENGTHS)
    assert any(group.length_N is not None for group in documents.groups)
    assert_each_document_alone(documents, packing, valid, window)


def varlen(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int,
    max_k: int, *, scale: float, window_size: tuple[int, int],
) -> Tensor:  # fmt: skip
    """What torch's kernel says it does, of [T, heads, D]."""
    assert cu_seq_q.dtype == torch.int32 and cu_seq_q is cu_seq_k and max_q == max_k
    assert cu_seq_q[0] == 0 and cu_seq_q[-1] == len(query)
    left, right = (math.inf if far == -1 else far for far in window_size)
    out = torch.full_like(query, math.nan)
    for first, last in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        assert last - first <= max_q
        place = torch.arange(last - first)
        ahead = place - place[:, None]
        hidden = (ahead > right) | (-ahead > left)
        q, k, v = (tensor[first:last].transpose(0, 1) for tensor in (query, key, value))
        scores = (q @ k.mT * scale).masked_fill(hidden, -math.inf)
        out[first:last] = (scores.softmax(-1) @ v).transpose(0, 1)
    return out


@layouts
@windows
def test_the_kernel_for_any_lengths_is_given_each_document_as_a_sequence(
    causal: bool, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "_varlen", lambda: varlen)
    packing, valid = plan()
    start = packing.row_B * packing.width + packing.start_B
    begins = bounds(start, valid.sum(1), packing.rows * packing.width)
    documents = Documents(causal, window, packing.width, begins)
    assert_each_document_alone(documents, packing, valid, window)


@pytest.mark.parametrize("pattern", ["prefix_lm", "prefix_causal"])
@pytest.mark.parametrize("prompts", [[2, 1, 7, 0, 5, 3, 4, 11], [0] * 8])
@pytest.mark.parametrize("kernel", [False, True])
@windows
def test_prompts_see_themselves_alone(
    pattern: Any, prompts: list[int], kernel: bool, window: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if kernel:
        monkeypatch.setattr(packed_attention, "_varlen", lambda: varlen)
        monkeypatch.setattr(where_documents_lie, "_grouped", where_documents_lie._sequences)
    packing, valid = plan()
    response = valid & (torch.arange(12) >= torch.tensor(prompts)[:, None])
    documents = documents_of(packing, valid, pattern, response, window=window)
    assert (documents.bounds_N is not None) == kernel
    assert documents.causal == (pattern == "prefix_causal")
    assert_each_document_alone(documents, packing, valid, window, prompts)


def backbone_of(family: str) -> Backbone:
    return causal_backbone(family) if family in CAUSAL else tiny_backbone(family)


def packed_states(backbone: Backbone, pattern: Any = "bidirectional") -> Tensor:
    tokens, valid = padded(random_rows([6, 9, 4]))
    response = valid & (torch.arange(valid.shape[1]) > 1)
    packing = plan_packing(np.array([6, 9, 4]), 20)
    return backbone.hidden(tokens, valid, attention=pattern, response_BL=response, packing=packing)


@every_kernel
@pytest.mark.parametrize("pattern", ["bidirectional", "prefix_lm", "causal", "prefix_causal"])
@torch.no_grad()
def test_no_mask_is_made_for_documents(
    family: str, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbone_of(family)
    expected = packed_states(backbone, pattern)
    monkeypatch.setattr("dlm.models.backbone.square_mask", None)  # calling it fails
    assert torch.equal(packed_states(backbone, pattern), expected)


@every_kernel
@torch.no_grad()
def test_padded_rows_are_computed_by_sdpa_bit_by_bit(family: str) -> None:
    backbone = backbone_of(family)
    tokens, valid = padded(random_rows([6, 9, 4]))
    found = backbone.hidden(tokens, valid)
    assert backbone.network.config._attn_implementation == packed_attention.NAME
    backbone.network.set_attn_implementation("sdpa")
    assert torch.equal(backbone.hidden(tokens, valid), found)


@pytest.mark.parametrize("family", ["xlm-roberta", "modernbert", "llama"])
@torch.no_grad()
def test_packed_rows_under_autocast(family: str) -> None:
    backbone = backbone_of(family)
    expected = packed_states(backbone)
    with torch.autocast("cpu", torch.bfloat16):
        found = packed_states(backbone)
    torch.testing.assert_close(found.float(), expected, atol=0.3, rtol=0.1)


def test_layers_that_are_computed_again_know_their_documents() -> None:
    gradients = []
    for recomputed in (False, True):
        backbone = tiny_backbone(dropout=0.0).train()
        if recomputed:
            recompute_activations(backbone.network)
        packed_states(backbone).square().mean().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.grad is not None])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_exports_do_not_name_the_function(tmp_path: Path) -> None:
    tiny_backbone().save(tmp_path)
    assert packed_attention.NAME not in json.dumps(
        json.loads((tmp_path / "config.json").read_text())
    )


def test_a_fallback_is_said_once_and_is_an_error_if_speed_is_strict() -> None:
    backbone = causal_backbone("gpt2").train()
    backbone.annealing = Annealing(steps=10, seed=0)
    said: list[str] = []
    backbone.say = said.append
    for _ in range(2):
        packed_states(backbone)
    assert said == [
        "packed rows attend through a mask, which is slower: attention is being annealed"
    ]
    backbone.strict_speed = True
    packed_states(backbone.eval())
    with pytest.raises(UserError, match=r"hardware\.strict_speed: .* is being annealed; set it"):
        packed_states(backbone.train())


def test_what_stands_in_the_way_on_a_cpu() -> None:
    backbone = tiny_backbone()

    def reason(device: torch.device = CPU, annealed: bool = False) -> str | None:
        return obstacle(backbone.network, device, annealed)

    assert reason() is None
    assert reason(annealed=True) == "attention is being annealed"
    assert reason(torch.device("mps")) == "there is no kernel for device mps"
    backbone.network.base_model.compile()
    assert reason() is None
    backbone.network.set_attn_implementation("eager")
    assert reason() == "the network attends by eager, not sdpa"


def test_what_stands_in_the_way_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_backbone(dropout=0.1).network
    monkeypatch.setattr(packed_attention, "_varlen", lambda: varlen)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    half = SimpleNamespace(on=True)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: half.on)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: torch.bfloat16)

    def reason() -> str | None:
        return obstacle(network, CUDA, False)

    assert reason() is None
    network.train()
    assert reason() == "varlen_attn has no dropout, and attention has 0.1 (model.dropout)"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert reason() == "varlen_attn needs a GPU of compute capability 8.0 or newer"
    half.on = False
    assert reason() == "varlen_attn takes bfloat16 and float16, not float32"
    monkeypatch.setattr(packed_attention, "_varlen", lambda: lambda query, key: query)
    assert "takes no window or scale (2.11 does)" in str(reason())

    def absent() -> Any:
        raise ImportError

    monkeypatch.setattr(packed_attention, "_varlen", absent)
    assert "has no varlen_attn (2.11 has)" in str(reason())


def test_this_torch_has_the_kernel_with_the_arguments_that_are_given() -> None:
    known = inspect.signature(packed_attention._varlen()).parameters
    assert {"cu_seq_q", "cu_seq_k", "max_q", "max_k", "scale", "window_size"} <= known.keys()
