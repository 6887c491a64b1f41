"""A stage's sources: the configuration's words turned into plain objects (no torch needed)."""

from pathlib import Path

from dlm.config.references import local_path
from dlm.config.schema import SourceConfig, StageConfig
from dlm.data.sources import Source


def build_source(config: SourceConfig, root: str | None, default_split: str) -> Source:
    """One source; ``data.root`` chooses between its local file and its hub data set."""
    path = local_path(config, root)
    options = dict(config.options)
    return Source(
        split=config.split or default_split,
        path=None if path is None else Path(path),
        hub=None if path is not None else config.hub,
        hub_config=config.hub_config,
        revision=config.revision,
        generator=config.generator,
        # The rows have a seed of their own: another seed of the run draws other noise and order
        # over the same rows.
        seed=options.pop("seed", 0),
        options=options,
        count=config.count or 0,
        fields=dict(config.hub_fields if path is None and config.hub_fields else config.fields),
        limit=config.limit,
    )


def build_sources(config: StageConfig) -> tuple[list[Source], list[Source]]:
    """Training and validation sources of a stage."""
    data = config.data
    return (
        [build_source(source, data.root, "train") for source in data.train],
        [build_source(source, data.root, "validation") for source in data.validation],
    )
