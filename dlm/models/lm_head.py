"""The output layer of masked language models, applied only where logits are wanted."""

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


HEADS: dict[str, Callable[[nn.Module], Head]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "xlm-roberta-xl": _roberta,
    "camembert": _roberta,
    "modernbert": _modernbert,
}
"""Hugging Face model type -> its head, a function of hidden states [..., H] to logits [..., V]."""


def lm_head(network: PreTrainedModel) -> Head:
    """The head of a Hugging Face masked language model.

    Raises:
        UserError: The model type is not known here.
    """
    model_type = network.config.model_type
    if model_type not in HEADS:
        raise UserError(
            f"models of type '{model_type}' are not supported: the supported types are "
            f"{', '.join(sorted(HEADS))}"
        )
    return HEADS[model_type](network)
