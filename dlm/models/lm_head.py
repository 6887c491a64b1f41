"""What the heads of language models do before the vocabulary's matrix, which is applied only where
logits are wanted."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.functional import gelu

Head = Callable[[Tensor], Tensor]
"""A function of hidden states [..., H] to the output layer's input, in most families [..., H]."""
HeadOf = Callable[[Any], Head]
"""A network -> what its head does."""


def bert(network: Any) -> Head:
    """A dense layer with its activation and norm."""
    return lambda hidden: network.cls.predictions.transform(hidden)


def roberta(network: Any) -> Head:
    """The same, put together otherwise."""
    head = network.lm_head
    return lambda hidden: head.layer_norm(gelu(head.dense(hidden)))


def modernbert(network: Any) -> Head:
    """A module of its own."""
    return lambda hidden: network.head(hidden)


def electra(network: Any) -> Head:
    """The generator's, down to the width of the embeddings."""
    return lambda hidden: network.generator_predictions(hidden)


def distilbert(network: Any) -> Head:
    """BERT's in modules of the network itself."""
    return lambda hidden: network.vocab_layer_norm(
        network.activation(network.vocab_transform(hidden))
    )


def albert(network: Any) -> Head:
    """Down to the width of the embeddings."""
    return _dense_first(network.predictions)


def rembert(network: Any) -> Head:
    """Up to the width of the output layer."""
    return _dense_first(network.cls.predictions)


def _dense_first(head: Any) -> Head:
    return lambda hidden: head.LayerNorm(head.activation(head.dense(hidden)))


def as_they_are(network: Any) -> Head:
    """Nothing."""
    return lambda hidden: hidden
