"""Stage kind ``pretrain``: a masked language model from plain text."""

from dlm.stages.denoising import DenoisingStage


class MaskedLanguageModeling(DenoisingStage):
    """Every token that is not special may be masked, at a fixed or a drawn rate."""
