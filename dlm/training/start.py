"""The network and tokenizer that a stage starts from."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from dlm.config.job import StageJob
from dlm.models.backbone import Backbone
from dlm.models.build import build_from_scratch, load_backbone, load_tokenizer
from dlm.models.special_tokens import SpecialTokens


@dataclass(frozen=True)
class StartingPoint:
    """What a stage begins with."""

    backbone: Backbone
    tokenizer: PreTrainedTokenizerBase
    special: SpecialTokens
    directory: Path | None
    """Where the weights came from, if from a directory on disk."""


def starting_point(job: StageJob) -> StartingPoint:
    """Weights and tokenizer from an earlier stage, a Hugging Face model, or from scratch.

    Raises:
        UserError: They cannot be loaded or do not fit together.
    """
    model = job.config.model
    source = job.config.init_from or model.pretrained
    if source is None:
        assert job.config.tokenizer is not None, "checked when the recipe was read"
        tokenizer = load_tokenizer(_place(job, job.config.tokenizer))
        backbone = build_from_scratch(
            tokenizer, architecture=model.architecture, hidden_size=model.hidden_size,
            num_layers=model.num_layers, num_heads=model.num_heads,
            intermediate_size=model.intermediate_size, max_positions=model.max_positions,
            dropout=model.dropout, initializer_range=model.initializer_range, seed=job.seed,
        )  # fmt: skip
        return StartingPoint(backbone, tokenizer, SpecialTokens.of(tokenizer), None)
    place = _place(job, source)
    backbone = load_backbone(
        place, revision=model.revision, dropout=model.dropout,
        trust_remote_code=model.trust_remote_code,
    )  # fmt: skip
    tokenizer = load_tokenizer(place, revision=model.revision)
    directory = Path(place) if Path(place).is_dir() else None
    return StartingPoint(backbone, tokenizer, SpecialTokens.of(tokenizer), directory)


def _place(job: StageJob, name: str) -> str | Path:
    return job.exports.get(name, name)
