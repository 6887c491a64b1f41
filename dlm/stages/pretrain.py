"""Stage kind ``pretrain``: a masked language model from plain text and from pairs."""

from dlm.stages.denoising import DenoisingStage


class MaskedLanguageModeling(DenoisingStage):
    """Every token of a text or of both sides of a pair may be masked, at a rate fixed or drawn."""
