"""Stage kind ``adapt``: diffusive adaptation to one conditional task (arXiv 2308.12219, 3.1)."""

from dlm.stages.denoising import DenoisingStage


class DiffusiveAdaptation(DenoisingStage):
    """The response is noised and predicted; the prompt stays clean in the same sequence."""
