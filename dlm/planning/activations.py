"""What a forward pass keeps for the backward pass.

T positions, H hidden, I intermediate, M masked positions, V vocabulary. The counts of each family
were read off the modules and are checked against what torch saves (tests/planning).
"""

from dataclasses import dataclass, replace
from typing import Literal

from dlm.models import families
from dlm.models.families import is_causal
from dlm.planning.precision import Bytes
from dlm.planning.shapes import BatchShape, NetworkShape

Attention = Literal["fused", "matrix"]
"""fused: a kernel that keeps no [L, L] probabilities (SDPA on a GPU; on a CPU without dropout).
matrix: they are kept (SDPA's plain path on a CPU with dropout, and eager attention)."""


@dataclass(frozen=True)
class LayerTensors:
    """Saved tensors of one layer, in units of [T, H] or [T, I]."""

    norm_inputs: int
    """[T, H] in the dtype of the stream."""
    hidden: int
    """Other [T, H] but keys and values: inputs of matrix products, query, attention's output."""
    key_values: int
    """[T, H] of keys and values, smaller with grouped heads."""
    casts: int
    """Further half-precision copies of [T, H] under autocast: each product casts its own input."""
    intermediate: int
    """[T, I]."""
    dropouts: int
    """Random masks of [T, H]."""
    norm_float: int = 0
    """[T, H] that are float32 whatever the precision (RMS norms)."""


_POST_NORM = LayerTensors(2, 4, 2, 2, 2, 2)
_LIKE_BERT = ("bert", "roberta", "xlm-roberta", "camembert", "data2vec-text", "ernie", "electra")
_LLAMA = LayerTensors(0, 6, 2, 3, 4, 0, norm_float=2)
FAMILIES: dict[str, LayerTensors] = {
    **dict.fromkeys(_LIKE_BERT, _POST_NORM),
    **dict.fromkeys(
        (
            "roberta-prelayernorm",
            "jina_embeddings_v3",
            "megatron-bert",
            "squeezebert",
            "rembert",
            "mpnet",
        ),
        _POST_NORM,
    ),
    "distilbert": replace(_POST_NORM, dropouts=1),
    # GELU by tanh, in five steps.
    "albert": replace(_POST_NORM, intermediate=5, dropouts=1),
    # A gated feed-forward; in the second with a random mask of its own, as wide as four of [T, H].
    "nomic_bert": replace(_POST_NORM, intermediate=4),
    "gte": replace(_POST_NORM, intermediate=4, dropouts=6),
    # GELU written out; in the second a gate, and norms of queries and keys.
    "esm": replace(_POST_NORM, intermediate=4),
    "esmc": replace(_POST_NORM, hidden=6, intermediate=4, dropouts=0),
    # The first one's norms are written out too.
    "deberta": replace(_POST_NORM, norm_inputs=10, hidden=6),
    "deberta-v2": replace(_POST_NORM, hidden=5),
    # Pre-norm: the same tensors, one dropout fewer.
    "xlm-roberta-xl": LayerTensors(2, 4, 2, 2, 2, 1),
    # One product for q, k and v, kept whole beside the rotated q and k; a gated feed-forward.
    "modernbert": LayerTensors(2, 6, 2, 0, 4, 1),
    # GELU by tanh, in five steps.
    "gpt2": LayerTensors(2, 4, 2, 0, 5, 2),
    "gpt_neox": LayerTensors(2, 6, 2, 0, 2, 2),
    **dict.fromkeys(("llama", "eurobert", "mistral", "phi3", "qwen2", "smollm3"), _LLAMA),
    # With norms of queries and keys.
    **dict.fromkeys(("olmo2", "qwen3"), replace(_LLAMA, hidden=8, norm_float=4)),
}
"""Hugging Face model type -> what a layer saves."""


BEHIND_ATTENTION: dict[str, LayerTensors] = {
    **dict.fromkeys(_LIKE_BERT, LayerTensors(1, 1, 0, 1, 2, 1)),
    "modernbert": LayerTensors(1, 1, 0, 0, 4, 1),
    "eurobert": LayerTensors(0, 1, 0, 1, 4, 0, norm_float=1),
}
"""The feed-forward part of these, which the last layer computes for masked tokens alone
(dlm/models/last_layer.py)."""


@dataclass(frozen=True)
class SavedActivations:
    """Bytes that are held when the loss is known."""

    layers: int
    """All layers; with checkpointing their inputs alone."""
    recomputed: int
    """With checkpointing: one layer, computed again in the backward pass."""
    others: int
    """Embeddings, the last norm, the output layer's own dense part."""

    @property
    def saved(self) -> int:
        """Held when the forward pass ends."""
        return self.layers + self.others

    @property
    def peak(self) -> int:
        """The most that is held in the backward pass."""
        return self.saved + self.recomputed


def layer_bytes(
    network: NetworkShape, batch: BatchShape, size: Bytes, *,
    attention: Attention = "fused", dropout_bytes: int = 1,
) -> int:  # fmt: skip
    """Saved by one layer.

    Args:
        dropout_bytes: bytes of a random mask's element: 1 on a GPU; a CPU keeps floats of the
            precision of computation.
    """
    tensors = FAMILIES[network.model_type]
    total = _tensor_bytes(tensors, network, batch.positions, size, dropout_bytes)
    total += 16 * batch.positions  # mean and 1/deviation of two norms
    return total + _attention_bytes(network, batch, size, attention, dropout_bytes)


def _tensor_bytes(
    tensors: LayerTensors, network: NetworkShape, positions: int, size: Bytes, dropout_bytes: int
) -> int:
    hidden = positions * network.hidden
    total = hidden * (
        tensors.norm_inputs * size.stream + tensors.hidden * size.compute + tensors.norm_float * 4
    )
    total += int(hidden * network.key_value_share * tensors.key_values * size.compute)
    total += positions * network.intermediate * tensors.intermediate * size.compute
    if size.autocast:
        total += hidden * tensors.casts * size.compute
    if network.dropout:
        total += hidden * tensors.dropouts * dropout_bytes
    return total


def _attention_bytes(
    network: NetworkShape, batch: BatchShape, size: Bytes, attention: Attention, dropout_bytes: int
) -> int:
    square = batch.positions * batch.width
    own = families.FAMILIES[network.model_type].own_attention
    if attention == "fused" and own is None:
        # Log-sums of the softmax, and the mask as numbers.
        return 4 * network.heads * batch.positions + square * size.compute
    probabilities = network.heads * square
    distances = network.distances
    if network.model_type == "deberta":  # its distances are no longer than the row
        distances = min(distances, 4 * batch.width)
    kept = (probabilities + network.heads * batch.positions * distances) * size.compute
    if not network.attention_dropout:
        return kept
    return kept + probabilities * (size.compute + dropout_bytes)


def saved_activations(
    network: NetworkShape, batch: BatchShape, size: Bytes, *,
    checkpointing: bool = False, attention: Attention = "fused", dropout_bytes: int = 1,
) -> SavedActivations:  # fmt: skip
    """Everything below the logits."""
    hidden = batch.positions * network.hidden
    one = layer_bytes(network, batch, size, attention=attention, dropout_bytes=dropout_bytes)
    # The embedding's norm or the encoder's last, a random mask, and ids.
    others = hidden * size.stream + 32 * batch.positions
    if network.dropout:
        others += hidden * dropout_bytes
    if is_causal(network.model_type):
        # Their states are shifted where the rows are padded again.
        others += batch.scattered * 16
    spared, behind = 0, BEHIND_ATTENTION.get(network.model_type)
    if behind is not None:
        spared = _tensor_bytes(behind, network, batch.positions - batch.masked, size, dropout_bytes)
    # Inputs of the output layer: a dense layer, GELU and a norm come first in masked models.
    inputs = 1 if is_causal(network.model_type) else 4
    others += inputs * batch.masked * network.hidden * size.compute
    if not checkpointing:
        return SavedActivations(network.layers * one - spared, 0, others)
    return SavedActivations(network.layers * hidden * size.stream, one, others)


def logit_bytes(masked: int, vocabulary: int, *, label_smoothing: bool = False) -> int:
    """The most that the cross-entropy of [M, V] logits holds at once, whatever the precision.

    In the backward pass there are float32 log-probabilities (what the forward pass saves), their
    gradient and the logits' gradient; label smoothing adds a gradient of its own. The forward pass
    holds less: logits of 2 bytes, a float32 copy, log-probabilities.
    """
    return masked * vocabulary * (12 + 4 * label_smoothing)
