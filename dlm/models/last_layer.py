"""The last layer, behind its attention, only where its states are read.

What follows attention treats every token alone, and of the last layer most states are of no
consequence: in training those of tokens that are not masked, in generation those of the context.
"""

from functools import partial
from types import MethodType
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from dlm.models.families import family_of


def cut_last_layer(network: PreTrainedModel) -> None:
    """Let the last layer of a network take ``read_M``, in place, if its family says how: numbers of
    places in the rows laid end to end, whose states [1, M, H] it then gives in place of all
    [R, W, H]. Others stay as they are."""
    body: Any = network.base_model
    kind = family_of(network.config).last_layer
    if isinstance(kind, str):
        attention = body.encoder.layer[-1].attention
        if _read_attended not in attention._forward_hooks.values():
            attention.register_forward_hook(_read_attended, with_kwargs=True)
    elif kind is not None:
        layer = body.layers[-1]
        # Bound as its own method is, so that a copy of the layer has one of its own.
        layer.forward = MethodType(partial(_pre_norm, names=kind), layer)


def _read_attended(
    module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any
) -> Any:
    """Attention with its residual and norm; feed-forward and its norm see what this gives."""
    read_M = options.get("read_M")
    return output if read_M is None else (_rows(output[0], read_M), *output[1:])


def _pre_norm(
    layer: Any, hidden_RWH: Tensor, *inputs: Any, names: tuple[str, str, str],
    read_M: Tensor | None = None, **options: Any,
) -> Tensor:  # fmt: skip
    """The layer's own forward pass, cut before its feed-forward part."""
    if read_M is None:
        whole: Tensor = type(layer).forward(layer, hidden_RWH, *inputs, **options)
        return whole
    first_norm, attention, second_norm = (getattr(layer, name) for name in names)
    attended_RWH = attention(first_norm(hidden_RWH), *inputs, **options)[0]
    hidden_1MH = _rows(hidden_RWH, read_M) + _rows(attended_RWH, read_M)
    added: Tensor = layer.mlp(second_norm(hidden_1MH))
    return hidden_1MH + added


def _rows(hidden_RWH: Tensor, read_M: Tensor) -> Tensor:
    # index_select as everywhere: its backward is deterministic on CPU.
    return hidden_RWH.flatten(0, 1).index_select(0, read_M)[None]
