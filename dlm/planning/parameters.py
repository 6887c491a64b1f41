"""How many parameters a network has, and of which kind: counted on the meta device."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from dlm.models.length_predictor import LengthPredictor


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters; one that is shared (tied) counts once."""

    total: int
    """Backbone and, in a length stage, predictor."""
    embedding: int
    """Of the tables: tokens, positions, types. The output layer's matrix is one where tied."""
    body: int
    """What every token passes: the network below its output layer, without the tables. A parameter
    that several layers share (ALBERT) counts in each."""
    linear: int
    """Of linear layers, the output layer too: what autocast copies to half precision."""
    trainable: int
    largest: int
    """Of the largest single tensor: what ZeRO-3 has to gather at once at least."""
    predictor: int = 0
    """Length stage only: the predictor, which alone is trained."""
    frozen_body: int = 0
    """Of the body, those that need no gradient."""

    @property
    def frozen(self) -> int:
        """Those that get no gradient."""
        return self.total - self.trainable


def count_parameters(network: nn.Module, predictor: LengthPredictor | None = None) -> Parameters:
    """Count a Hugging Face language model; with ``predictor`` the network is frozen."""
    total = _numel(network)
    tables = {p for m in network.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    config: Any = network.config
    shared = getattr(config, "num_hidden_groups", None)
    passes = config.num_hidden_layers / shared if shared else 1.0
    body = {p for p in network.base_model.parameters() if p not in tables}  # type: ignore[union-attr]
    linear = {
        p for m in network.modules() if isinstance(m, nn.Linear | Conv1D) for p in m.parameters()
    }
    extra = 0 if predictor is None else _numel(predictor)
    return Parameters(
        total=total + extra,
        embedding=sum(p.numel() for p in tables),
        body=int(sum(p.numel() for p in body) * passes),
        linear=sum(p.numel() for p in linear),
        trainable=total if predictor is None else extra,
        largest=max(p.numel() for p in network.parameters()),
        predictor=extra,
        frozen_body=int(sum(p.numel() for p in body if not p.requires_grad) * passes),
    )


def meta_predictor(
    hidden_size: int, *, max_length: int, num_heads: int, relative: bool = False
) -> LengthPredictor:
    """A length predictor whose tensors have no storage."""
    with torch.device("meta"):
        return LengthPredictor(
            hidden_size, max_length=max_length, num_heads=num_heads, relative=relative
        )


def _numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
