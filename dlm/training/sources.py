"""A stage's sources: the configuration's words turned into plain objects (no torch needed)."""

from pathlib import Path
from typing import Literal

from dlm.config.job import StageJob
from dlm.config.references import local_path
from dlm.config.schema import SourceConfig, StageConfig
from dlm.data.sources import BadRows, Holdout, Source


def build_source(
    config: SourceConfig,
    root: str | None,
    part: Literal["train", "validation"],
    normalise: Literal["none", "nfc"] = "none",
) -> Source:
    """One source of a part; ``data.root`` chooses between its local files and its hub data set."""
    path = local_path(config, root)
    options = dict(config.options)
    holdout = None
    if config.holdout.share is not None:
        by = tuple(config.holdout.by)
        holdout = Holdout(config.holdout.part or part, config.holdout.share, by)
    return Source(
        # Both parts of a set that is split by content are in its one split.
        split=config.split or ("train" if holdout else part),
        path=None if path is None else Path(path),
        hub=None if path is not None else config.hub,
        hub_config=config.hub_config,
        revision=config.revision,
        streaming=config.streaming,
        generator=config.generator,
        # The rows have a seed of their own: another seed of the run draws other noise and order
        # over the same rows.
        seed=options.pop("seed", 0),
        options=options,
        count=config.count or 0,
        fields=dict(config.hub_fields if path is None and config.hub_fields else config.fields),
        columns=() if path is None else tuple(config.columns),
        unquoted=path is not None and config.unquoted,
        id_field=config.id_field,
        holdout=holdout,
        limit=config.limit,
        normalise=normalise,
    )


def build_sources(config: StageConfig) -> tuple[list[Source], list[Source]]:
    """Training and validation sources of a stage."""
    data = config.data
    return (
        [build_source(source, data.root, "train", data.normalise) for source in data.train],
        [
            build_source(source, data.root, "validation", data.normalise)
            for source in data.validation
        ],
    )


def build_bad_rows(job: StageJob, *, lists: bool = True) -> BadRows:
    """What becomes of the stage's bad rows; of several ranks one ``lists`` them."""
    listing = job.directory / "logs" / "bad_rows.jsonl" if lists else None
    return BadRows(job.config.data.on_bad_row, listing)
