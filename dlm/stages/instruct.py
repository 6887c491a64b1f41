"""Stage kind ``instruct``: diffusive adaptation on a mixture of instructions (2308.12219, 3.3)."""

from dlm.stages.adapt import DiffusiveAdaptation


class InstructionTuning(DiffusiveAdaptation):
    """Adaptation where the prompt says which task is meant."""
