"""The shape of a network and of what one device puts through it at once."""

from dataclasses import dataclass

from transformers import PretrainedConfig

_HIDDEN = ("hidden_dropout_prob", "resid_pdrop", "mlp_dropout", "hidden_dropout", "dropout")
_ATTENTION = ("attention_probs_dropout_prob", "attn_pdrop", "attention_dropout")


@dataclass(frozen=True)
class NetworkShape:
    """What the memory and work of a pass depend on, parameters apart."""

    model_type: str
    """Hugging Face's."""
    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int
    key_value_share: float = 1.0
    """Width of keys and values, as a share of ``hidden``."""
    dropout: bool = True
    """Whether hidden states are dropped at random."""
    attention_dropout: bool = True
    """Whether attention's probabilities are."""
    distances: int = 0
    """Scores of a query in one head against distances in the row, both ways together (DeBERTa)."""


@dataclass(frozen=True)
class BatchShape:
    """One micro-batch of one device, copies of coupled noise included."""

    rows: int
    """Rows that the network is given: packed ones, where they are packed."""
    width: int
    """Their width in tokens."""
    masked: int
    """Positions whose logits are computed."""
    scattered: int = 0
    """Packed only: positions of the padded layout that the states are put back to."""

    @property
    def positions(self) -> int:
        """Positions that the network computes, padding too."""
        return self.rows * self.width


def network_shape(config: PretrainedConfig, dropout: float | None = None) -> NetworkShape:
    """The shape that a Hugging Face configuration describes."""
    heads, hidden = int(config.num_attention_heads), int(config.hidden_size)
    key_values = int(getattr(config, "num_key_value_heads", None) or heads)
    head_size = int(getattr(config, "head_dim", None) or hidden // heads)
    hidden_rate, attention_rate = (
        max(float(getattr(config, name, None) or 0) for name in names)
        for names in (_HIDDEN, _ATTENTION)
    )
    has_hidden = any(hasattr(config, name) for name in _HIDDEN)
    widths = (
        getattr(config, name, None) for name in ("intermediate_size", "n_inner", "hidden_dim")
    )
    return NetworkShape(
        model_type=str(config.model_type),
        layers=int(config.num_hidden_layers),
        hidden=hidden,
        intermediate=next((int(width) for width in widths if width), 4 * hidden),
        heads=heads,
        vocabulary=int(config.vocab_size),
        key_value_share=key_values * head_size / hidden,
        dropout=(hidden_rate if dropout is None else dropout) > 0 and has_hidden,
        attention_dropout=(attention_rate if dropout is None else dropout) > 0,
        distances=_distances(config),
    )


def _distances(config: PretrainedConfig) -> int:
    if not getattr(config, "relative_attention", False):
        return 0
    spans = (getattr(config, name, -1) for name in ("position_buckets", "max_relative_positions"))
    span = next((int(span) for span in spans if span > 0), int(config.max_position_embeddings))
    return 2 * span * len(config.pos_att_type or ())
