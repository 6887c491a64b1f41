"""The model types of Hugging Face that are supported: a line each, with all that differs here.

What is shared by all (attention within packed rows, response positions, kept prompts) stands where
it is done; what a type's layers keep in memory, in ``dlm/planning/activations.py``. Another type is
added with a line here and one there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PretrainedConfig

from dlm.errors import UserError
from dlm.models import lm_head
from dlm.models.lm_head import HeadOf
from dlm.models.token_dropout import without_token_dropout

POST_NORM: Literal["post_norm"] = "post_norm"
LastLayer = Literal["post_norm"] | tuple[str, str, str]
OwnAttention = Literal["added", "truth"]
"""What attention code of a network's own takes a square mask as: numbers that it adds to its
scores, or truth values."""


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
    own_attention: OwnAttention | None = None
    """Its attention is code of its own: no kernel can be put in its place, so packed rows need a
    mask and prompts are not kept. None: it attends by transformers' attention functions."""
    masks_embeddings: bool = False
    """Its embeddings are multiplied by the attention mask."""
    by_place: bool = False
    """Its attention reads how far apart tokens lie in the row, whatever their position ids: its
    responses follow their prompts."""
    bias_beside: bool = False
    """The output layer's bias is not the layer's own but ``lm_head.bias``."""
    position_types: tuple[str, ...] = ("absolute",)
    """Those of ``position_embedding_type`` that transformers computes."""
    prepare: Callable[[Any], str | None] | None = None
    """Changes a network that was loaded, in place, and says what."""


_BERT = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_LLAMA = ("attention_dropout",)
_MODERNBERT = ("attention_dropout", "embedding_dropout", "mlp_dropout")
_ROBERTA = Family(lm_head.roberta, _BERT, counts_from_pad=True, last_layer=POST_NORM)
_OWN_BERT = Family(lm_head.bert, _BERT, own_attention="added")
_DEBERTA = Family(lm_head.bert, _BERT, own_attention="truth", masks_embeddings=True, by_place=True)
_CAUSAL = Family(lm_head.as_they_are, _LLAMA, causal=True)

FAMILIES: dict[str, Family] = {
    "bert": Family(lm_head.bert, _BERT, last_layer=POST_NORM),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "data2vec-text": _ROBERTA,
    "xlm-roberta-xl": Family(lm_head.roberta, _BERT, counts_from_pad=True),
    "roberta-prelayernorm": Family(lm_head.roberta, _BERT, counts_from_pad=True),
    "ernie": Family(lm_head.bert, _BERT, last_layer=POST_NORM),
    "electra": Family(lm_head.electra, _BERT, last_layer=POST_NORM),
    "distilbert": Family(lm_head.distilbert, ("dropout", "attention_dropout")),
    "albert": Family(lm_head.albert, _BERT),
    "nomic_bert": Family(lm_head.bert, _BERT),
    "gte": Family(lm_head.roberta, _BERT),
    "jina_embeddings_v3": Family(lm_head.roberta, _BERT),
    "esm": Family(lm_head.roberta, _BERT, counts_from_pad=True, masks_embeddings=True,
                  bias_beside=True, position_types=("absolute", "rotary"),
                  prepare=without_token_dropout),
    "esmc": Family(lm_head.roberta, _LLAMA),
    "megatron-bert": _OWN_BERT,
    "squeezebert": _OWN_BERT,
    "rembert": Family(lm_head.rembert, _BERT, own_attention="added"),
    "mpnet": Family(lm_head.roberta, _BERT, counts_from_pad=True, own_attention="added",
                    by_place=True),
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,
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


_COVERED = "so what a token is given depends on tokens that it must not see, padding among them"
REFUSED: dict[str, str] = {
    "big_bird": "which blocks it attends to depends on the padded length, and after a short row it "
    "attends to all",
    "convbert": f"its attention is in part a convolution of neighbours, {_COVERED}",
    "fnet": f"it mixes tokens by a Fourier transform and knows no attention mask, {_COVERED}",
    "funnel": f"it pools neighbouring tokens, {_COVERED}",
    "mobilebert": f"its embeddings are made of each token and its neighbours, {_COVERED}",
    "mra": "its attention is a CUDA kernel that is fetched from the hub, without which no token "
    "sees another",
    "nystromformer": f"it attends by way of means over the row, {_COVERED}",
    "reformer": "its attention draws random hashes in every pass, so no answer can be had twice",
    "yoso": f"its sampled attention has no exact mask, {_COVERED}",
}
"""Hugging Face model type -> why a diffusion language model cannot be made of it."""


def family_of(config: PretrainedConfig) -> Family:
    """The family of a network.

    Raises:
        UserError: Its type is not supported; the message says why, or names those that are.
    """
    if config.model_type in REFUSED:
        raise UserError(
            f"models of type '{config.model_type}' are not supported: {REFUSED[config.model_type]}"
        )
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
