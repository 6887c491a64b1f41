"""The output layer of language models, applied only where logits are wanted."""

from collections.abc import Callable

from torch import Tensor, nn
from transformers import PreTrainedModel

from dlm.errors import UserError

Head = Callable[[Tensor], Tensor]


def _bert(network: nn.Module) -> Head:
    return network.cls  # type: ignore[return-value]


def _roberta(network: nn.Module) -> Head:
    return network.lm_head  # type: ignore[return-value]


def _modernbert(network: nn.Module) -> Head:
    return lambda hidden: network.decoder(network.head(hidden))  # type: ignore[operator]


def _output_layer(network: nn.Module) -> Head:
    # Looked up at every call: a resized vocabulary has another layer.
    return lambda hidden: network.get_output_embeddings()(hidden)  # type: ignore[operator]


CAUSAL_TYPES = (
    "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3",
)  # fmt: skip
"""Hugging Face model types that predict the next token, and whose logits are those of one matrix:
a type that scales or caps them afterwards needs a head of its own."""

HEADS: dict[str, Callable[[nn.Module], Head]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "xlm-roberta-xl": _roberta,
    "camembert": _roberta,
    "modernbert": _modernbert,
    **dict.fromkeys(CAUSAL_TYPES, _output_layer),
}
"""Hugging Face model type -> its head, a function of hidden states [..., H] to logits [..., V]."""


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


def lm_head(network: PreTrainedModel) -> Head:
    """The head of a Hugging Face masked or causal language model.

    Raises:
        UserError: The model type is not known here.
    """
    check_supported(network.config.model_type)
    return HEADS[network.config.model_type](network)
