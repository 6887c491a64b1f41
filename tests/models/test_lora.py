"""Low-rank adapters in a network, and the ordinary network that they are merged to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_backbones import tiny_backbone
from tiny_causal import causal_backbone
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from dlm.errors import StageFailed, UserError
from dlm.models.backbone import Backbone
from dlm.models.lora import LoraSettings, add_adapters, lora_merged

every_family = pytest.mark.parametrize(
    "family", ["xlm-roberta", "bert", "modernbert", "gpt2", "llama", "qwen2"]
)
TOKENS = torch.tensor([[5, 9, 12, 30, 7], [6, 8, 40, 11, 10]])


def backbone_of(family: str) -> Backbone:
    causal = family in ("gpt2", "llama", "qwen2")
    return causal_backbone(family) if causal else tiny_backbone(family)


def logits(backbone: Backbone) -> Tensor:
    with torch.no_grad():
        valid = torch.ones_like(TOKENS, dtype=torch.bool)
        return backbone.logits(backbone.hidden(TOKENS, valid))


def adapted(family: str, **settings: Any) -> Backbone:
    """With adapters as if trained."""
    backbone = backbone_of(family)
    add_adapters(backbone.network, LoraSettings(4, **settings), seed=0)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return backbone


def trained(backbone: Backbone) -> set[str]:
    """Layers that hold something trained."""
    names = (n for n, p in backbone.network.named_parameters() if p.requires_grad)
    return {name.partition(".lora_")[0].removesuffix(".weight") for name in names}


@every_family
def test_adapters_change_nothing_before_they_are_trained(family: str) -> None:
    backbone = backbone_of(family)
    before, state = logits(backbone), torch.random.get_rng_state()
    said = add_adapters(backbone.network, LoraSettings(2), seed=0)
    assert torch.equal(logits(backbone), before)
    assert torch.equal(torch.random.get_rng_state(), state)
    again = backbone_of(family)
    add_adapters(again.network, LoraSettings(2), seed=0)
    for ours, theirs in zip(backbone.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    count = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    assert f"{count:,} of" in said and "alpha 4 on" in said


@every_family
def test_the_merged_network_computes_what_the_adapted_one_did(family: str) -> None:
    original, backbone = backbone_of(family), adapted(family)
    expected, layers = logits(backbone), trained(backbone)
    assert (expected - logits(original)).abs().max() > 0.1
    lora_merged(backbone, None, "")
    torch.testing.assert_close(logits(backbone), expected, atol=1e-4, rtol=1e-4)
    before, after = original.network.state_dict(), backbone.network.state_dict()
    assert before.keys() == after.keys() and not hasattr(backbone.network, "peft_config")
    changed = {n.removesuffix(".weight") for n in before if not torch.equal(before[n], after[n])}
    assert changed == layers


@every_family
def test_the_default_leaves_out_what_is_not_in_the_layers(family: str) -> None:
    backbone, everything = adapted(family), adapted(family, targets=["all-linear"])
    prefix = backbone.network.base_model_prefix
    assert all(name.startswith(f"{prefix}.") for name in trained(backbone))
    more = {name.rpartition(".")[2] for name in trained(everything) - trained(backbone)}
    assert more == ({"dense"} if family in ("xlm-roberta", "bert", "modernbert") else set())


def test_targets_are_named_by_the_ends_of_their_names() -> None:
    backbone = adapted("bert", targets=["query", "1.output.dense"])
    ends = sorted(name.rpartition("layer.")[2] for name in trained(backbone))
    assert ends == ["0.attention.self.query", "1.attention.self.query", "1.output.dense"]


def test_modules_that_are_trained_in_full_keep_their_ties() -> None:
    backbone = adapted("bert", train_also=["word_embeddings"])
    network: Any = backbone.network
    embedding = network.get_input_embeddings().weight
    assert embedding.requires_grad and network.get_output_embeddings().weight is embedding
    assert "bert.embeddings.word_embeddings" in trained(backbone)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"targets": ["quary"]}, r"targets=quary: .* did you mean 'query'\? \(there are dense,"),
        ({"targets": ["decoder"]}, "lora.targets=decoder: the network has no such linear layers"),
        ({"targets": ["all-linear", "quary"]}, "targets=quary: the network has no such linear"),
        ({"train_also": ["roberta"]}, "train_also=roberta leaves no layer for an adapter: name"),
        ({"train_also": ["wte"]}, "train_also=wte: the network has no such modules .*embeddings"),
        ({"targets": ["dense"], "train_also": ["lm_head"]},
         "lora.targets=dense: lm_head.dense is trained in full, by lora.train_also"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit_are_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        adapted("xlm-roberta", **settings)


def test_a_network_that_cannot_be_merged_is_not_exported() -> None:
    backbone = adapted("bert", targets=["query"])
    with torch.no_grad():
        next(p for p in backbone.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(StageFailed, match="merged network differs from the adapted one by nan"):
        lora_merged(backbone, None, "")


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("xlm-roberta", {}),
        ("xlm-roberta", {"train_also": ["word_embeddings"]}),
        ("bert", {"train_also": ["cls"]}),
        ("modernbert", {"train_also": ["head", "final_norm"], "targets": ["all-linear"]}),
        ("gpt2", {"train_also": ["wte"]}),
    ],
)
def test_peft_puts_the_adapter_on_the_base_model(
    family: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    original, backbone = backbone_of(family), adapted(family, **settings)
    expected = logits(backbone)
    original.save(tmp_path / "base")
    lora_merged(backbone, tmp_path / "adapter", str(tmp_path / "base"))
    kind = AutoModelForCausalLM if original.causal else AutoModelForMaskedLM
    base = kind.from_pretrained(tmp_path / "base", attn_implementation="sdpa")
    network = PeftModel.from_pretrained(base, tmp_path / "adapter").get_base_model()
    assert isinstance(network, PreTrainedModel)
    opened = Backbone(network).eval()
    torch.testing.assert_close(logits(opened), expected, atol=1e-5, rtol=1e-5)
