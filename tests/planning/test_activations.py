"""The estimate of saved activations against what torch saves, at small shapes on the CPU."""

from typing import Any

import numpy as np
import pytest
import torch
from saved_tensors import saved_bytes
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    EuroBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PretrainedConfig,
    XLMRobertaConfig,
    XLMRobertaXLConfig,
)

from dlm.data.batches.packing import plan_packing
from dlm.diffusion.objective import token_losses
from dlm.models import families
from dlm.models.backbone import Backbone
from dlm.models.families import is_causal
from dlm.planning.activations import FAMILIES, saved_activations
from dlm.planning.parameters import count_parameters
from dlm.planning.precision import bytes_of
from dlm.planning.shapes import BatchShape, network_shape

VOCABULARY = 96
LENGTHS = [64, 40, 24]
PLAIN = bytes_of("32-true", "single")


def config(family: str = "xlm-roberta", dropout: float = 0.0, **changes: Any) -> PretrainedConfig:
    common: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 4, "intermediate_size": 256, "pad_token_id": 1, "bos_token_id": 0,
        "eos_token_id": 2, **changes,
    }  # fmt: skip
    rates: dict[str, Any] = {
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    if family == "gpt2":
        common["n_inner"] = common.pop("intermediate_size")
        return GPT2Config(
            **common, n_positions=80, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout
        )
    if family in ("llama", "eurobert"):
        kind = LlamaConfig if family == "llama" else EuroBertConfig
        return kind(**common, max_position_embeddings=80, attention_dropout=dropout)
    if family == "modernbert":
        return ModernBertConfig(
            **common, max_position_embeddings=80, layer_types=["full_attention"] * 4,
            attention_dropout=dropout, embedding_dropout=dropout, mlp_dropout=dropout,
        )  # fmt: skip
    kinds = {
        "xlm-roberta": XLMRobertaConfig, "xlm-roberta-xl": XLMRobertaXLConfig, "bert": BertConfig,
    }  # fmt: skip
    return kinds[family](**common, **rates, max_position_embeddings=80)


def measured_and_planned(
    settings: PretrainedConfig, *, packed: bool = False, checkpointing: bool = False,
    implementation: str = "sdpa", precision: str = "32-true",
) -> tuple[int, int]:  # fmt: skip
    """Bytes that a forward pass of three rows saves, and what is planned for it."""
    causal = is_causal(settings.model_type)
    auto = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    network = auto.from_config(settings, attn_implementation=implementation).train()
    if precision == "bf16":
        network = network.bfloat16()
    if checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    backbone = Backbone(network).train()
    tokens, valid, masked_M = batch()
    packing = plan_packing(np.array(LENGTHS), 64) if packed else None

    def forward() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            hidden = backbone.hidden(
                tokens, valid, packing=packing, attention="bidirectional", place_M=masked_M
            )
            logits = backbone.logits(hidden)
            losses, _ = token_losses(logits, tokens.flatten()[masked_M])
        return losses.sum()

    shape = network_shape(settings)
    size = PLAIN
    if precision == "bf16":
        size = bytes_of("bf16-mixed", "zero2")
    if precision == "bf16-mixed":
        size = bytes_of("bf16-mixed", "single")
    rows = packing.rows if packing else len(LENGTHS)
    planned = saved_activations(
        shape, BatchShape(rows, 64, len(masked_M), scattered=tokens.numel() if packed else 0), size,
        checkpointing=checkpointing, dropout_bytes=size.compute,
        attention="matrix" if implementation == "eager" or shape.attention_dropout else "fused",
    )  # fmt: skip
    expected = planned.saved + 4 * len(masked_M) * VOCABULARY
    if size.autocast and not checkpointing:
        expected += size.compute * count_parameters(network).linear
    return saved_bytes(backbone, forward), expected


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    valid = torch.arange(64) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.randint(5, VOCABULARY, valid.shape, generator=generator)
    masked = valid & (torch.rand(valid.shape, generator=generator) < 0.5)
    return tokens.masked_fill(~valid, 1), valid, masked.flatten().nonzero().squeeze(1)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_saved_activations_are_within_15_percent_of_torch(
    dropout: float, implementation: str, packed: bool, checkpointing: bool
) -> None:
    measured, planned = measured_and_planned(
        config(dropout=dropout), packed=packed, checkpointing=checkpointing,
        implementation=implementation,
    )  # fmt: skip
    assert planned == pytest.approx(measured, rel=0.15), f"{planned / measured:.3f}"


@pytest.mark.parametrize(
    "family", ["bert", "xlm-roberta-xl", "modernbert", "eurobert", "gpt2", "llama"]
)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_so_are_those_of_other_families(family: str, dropout: float) -> None:
    measured, planned = measured_and_planned(config(family, dropout))
    assert planned == pytest.approx(measured, rel=0.15), f"{planned / measured:.3f}"


def test_every_supported_model_type_can_be_planned() -> None:
    assert set(FAMILIES) == set(families.FAMILIES)


@pytest.mark.parametrize(
    "family", ["gpt_neox", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"]
)
def test_so_are_those_of_the_other_causal_types_with_grouped_heads(family: str) -> None:
    grouped = {} if family == "gpt_neox" else {"num_key_value_heads": 2, "head_dim": 16}
    settings = AutoConfig.for_model(
        family, vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=256, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        max_position_embeddings=80, **grouped,
    )  # fmt: skip
    measured, planned = measured_and_planned(settings)
    assert planned == pytest.approx(measured, rel=0.15)


MORE: dict[str, dict[str, Any]] = {
    "data2vec-text": {}, "roberta-prelayernorm": {}, "ernie": {}, "electra": {},
    "distilbert": {"hidden_dim": 256}, "albert": {"embedding_size": 64}, "nomic_bert": {},
    "gte": {}, "jina_embeddings_v3": {}, "esm": {"position_embedding_type": "rotary"}, "esmc": {},
    "megatron-bert": {}, "squeezebert": {"embedding_size": 64},
    "rembert": {"input_embedding_size": 64, "output_embedding_size": 64}, "mpnet": {},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"],
                   "position_buckets": 8, "share_att_key": True},
}  # fmt: skip
"""The encoders that are not built by ``config``, and what of them is not as in the rest."""


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("family", MORE)
def test_so_are_those_of_the_other_encoders(family: str, dropout: float) -> None:
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 4, "max_position_embeddings": 80, "pad_token_id": 1,
    } | dict.fromkeys(families.FAMILIES[family].dropouts, dropout)  # fmt: skip
    if hasattr(AutoConfig.for_model(family), "intermediate_size"):
        sizes["intermediate_size"] = 256
    settings = AutoConfig.for_model(family, **sizes, **MORE[family])
    own = families.FAMILIES[family].own_attention is not None
    measured, planned = measured_and_planned(settings, implementation="eager" if own else "sdpa")
    assert planned == pytest.approx(measured, rel=0.15), f"{planned / measured:.3f}"


@pytest.mark.parametrize("family", ["xlm-roberta", "xlm-roberta-xl"])
@pytest.mark.parametrize("precision", ["bf16", "bf16-mixed"])
def test_so_are_those_of_bf16_weights_and_of_autocast(family: str, precision: str) -> None:
    measured, planned = measured_and_planned(config(family), precision=precision)
    assert planned == pytest.approx(measured, rel=0.15), f"{planned / measured:.3f}"
