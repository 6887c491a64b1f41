"""The output layer of language models, applied only where logits are wanted."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.functional import gelu
from transformers import PreTrainedModel

from dlm.errors import UserError

Head = Callable[[Tensor], Tensor]


def _bert(network: Any) -> Head:
    return lambda hidden: network.cls.predictions.transform(hidden)


def _roberta(network: Any) -> Head:
    head = network.lm_head
    return lambda hidden: head.layer_norm(gelu(head.dense(hidden)))


def _modernbert(network: Any) -> Head:
    return lambda hidden: network.head(hidden)


def _as_they_are(network: Any) -> Head:
    return lambda hidden: hidden


CAUSAL_TYPES = (
    "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3",
)  # fmt: skip
"""Hugging Face model types that predict the next token, and whose logits are those of one matrix:
a type that scales or caps them afterwards needs a head of its own."""

HEADS: dict[str, Callable[[Any], Head]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "xlm-roberta-xl": _roberta,
    "camembert": _roberta,
    "modernbert": _modernbert,
    "eurobert": _as_they_are,
    **dict.fromkeys(CAUSAL_TYPES, _as_they_are),
}
"""Hugging Face model type -> what its head does before the vocabulary's matrix, a function of
hidden states [..., H] to [..., H]."""


def check_supported(model_type: str) -> None:
    """Refuse a model type whose head is not known here.

    Raises:
        UserError: It is not; the message names those that are.
    """
    if model_type not in HEADS:
        raise UserError(
            f"models of type '{model_type}' are not supported: the supported types are "
            f"{', '.join(sorted(HEADS))}"
        )


def head_transform(network: PreTrainedModel) -> Head:
    """What the head of a Hugging Face masked or causal language model does to hidden states before
    the output layer, ``network.get_output_embeddings()``.

    Raises:
        UserError: The model type is not known here.
    """
    check_supported(network.config.model_type)
    return HEADS[network.config.model_type](network)
