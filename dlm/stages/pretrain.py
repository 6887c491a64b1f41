"""Stage kind ``pretrain``: a masked language model from plain text and from pairs."""

from dlm.stages.denoising import DenoisingStage


class MaskedLanguageModeling(DenoisingStage):
    """Tokens of a text, or of both sides of a pair, are masked at a fixed or a drawn rate."""
