"""What a stage writes: checkpoints and the export, without the few KB of names and headers."""

from dlm.planning.parameters import Parameters
from dlm.planning.precision import MOMENTS, Precision, Strategy, bytes_of


def checkpoint_bytes(parameters: Parameters, precision: Precision, strategy: Strategy) -> int:
    """Weights and the optimizer's state of one checkpoint, over all ranks' files. A length stage
    saves its predictor alone."""
    size = bytes_of(precision, strategy)
    saved = parameters.predictor or parameters.total
    return size.weight * saved + (MOMENTS + size.master) * parameters.trainable


def export_bytes(parameters: Parameters) -> int:
    """The weights in float32, those that are shared once."""
    return 4 * parameters.total
