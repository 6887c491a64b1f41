"""What a stage writes: checkpoints and the export, without the few KB of names and headers."""

from dlm.planning.parameters import Parameters
from dlm.planning.precision import MOMENTS


def checkpoint_bytes(parameters: Parameters) -> int:
    """One checkpoint, over all ranks' files: float32 weights and moments of what is trained,
    whatever the strategy. (A length stage saves its predictor alone.)"""
    return (4 + MOMENTS) * parameters.trainable


def export_bytes(parameters: Parameters) -> int:
    """The weights in float32, those that are shared once."""
    return 4 * parameters.total
