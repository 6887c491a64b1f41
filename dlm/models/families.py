"""The model types of Hugging Face that are supported: a line each, with all that differs here.

What is shared by all (attention within packed rows, response positions, kept prompts) stands where
it is done; what a type's layers keep in memory, in ``dlm/planning/activations.py``. Another type is
added with a line here and one there.
"""

from dataclasses import dataclass
from typing import Literal

from transformers import PretrainedConfig

from dlm.errors import UserError
from dlm.models import lm_head
from dlm.models.lm_head import HeadOf

POST_NORM: Literal["post_norm"] = "post_norm"
LastLayer = Literal["post_norm"] | tuple[str, str, str]


@dataclass(frozen=True)
class Family:
    """What of a model type decides how it is built, trained and read."""

    head: HeadOf
    """What its head does before the vocabulary's matrix."""
    dropouts: tuple[str, ...]
    """The names of its rates of dropout in the configuration."""
    causal: bool = False
    """It predicts the next token."""
    counts_from_pad: bool = False
    """Its position ids begin behind the padding token's id, which itself is not counted."""
    last_layer: LastLayer | None = None
    """How its last layer is cut: behind attention with its norm, or, where norms come first, by the
    names of the first norm, attention and the second norm. None: it is not."""
    windowed: bool = False
    """Layers of sliding-window attention see to both sides."""


_BERT = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_LLAMA = ("attention_dropout",)
_MODERNBERT = ("attention_dropout", "embedding_dropout", "mlp_dropout")
_ROBERTA = Family(lm_head.roberta, _BERT, counts_from_pad=True, last_layer=POST_NORM)
_CAUSAL = Family(lm_head.as_they_are, _LLAMA, causal=True)

FAMILIES: dict[str, Family] = {
    "bert": Family(lm_head.bert, _BERT, last_layer=POST_NORM),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "xlm-roberta-xl": Family(lm_head.roberta, _BERT, counts_from_pad=True),
    "modernbert": Family(lm_head.modernbert, _MODERNBERT, windowed=True,
                         last_layer=("attn_norm", "attn", "mlp_norm")),
    "eurobert": Family(lm_head.as_they_are, _LLAMA,
                       last_layer=("input_layernorm", "self_attn", "post_attention_layernorm")),
    # Causal ones whose logits are those of one matrix: a type that scales or caps them afterwards
    # needs a head of its own.
    "gpt2": Family(lm_head.as_they_are, ("resid_pdrop", "embd_pdrop", "attn_pdrop"), causal=True),
    "gpt_neox": Family(lm_head.as_they_are, ("attention_dropout", "hidden_dropout"), causal=True),
    "llama": _CAUSAL,
    "mistral": _CAUSAL,
    "olmo2": _CAUSAL,
    "phi3": Family(lm_head.as_they_are, ("attention_dropout", "resid_pdrop", "embd_pdrop"),
                   causal=True),
    "qwen2": _CAUSAL,
    "qwen3": _CAUSAL,
    "smollm3": _CAUSAL,
}  # fmt: skip
"""Hugging Face model type -> what of it differs."""


def family_of(config: PretrainedConfig) -> Family:
    """The family of a network.

    Raises:
        UserError: Its type is not supported; the message names those that are.
    """
    if config.model_type not in FAMILIES:
        raise UserError(
            f"models of type '{config.model_type}' are not supported: the supported types are "
            f"{', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[config.model_type]


def is_causal(model_type: str) -> bool:
    """Whether networks of a type predict the next token; False of unknown ones."""
    family = FAMILIES.get(model_type)
    return family is not None and family.causal
