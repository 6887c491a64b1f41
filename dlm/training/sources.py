"""A stage's sources and examples: the configuration's words turned into plain objects."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dlm.config.checks.data import source_name, task_of
from dlm.config.references import local_path, local_texts, sources_read
from dlm.config.schema import DataConfig, SourceConfig, StageConfig
from dlm.data.batches.shares import MixtureSettings
from dlm.data.examples import ExampleRecipe, TaskSource
from dlm.data.few_shot import FewShot
from dlm.data.prompts import Template
from dlm.data.rows.masking import Masking
from dlm.data.sources import BadRows, Holdout, Source
from dlm.data.tasks.registry import TASKS, shipped_templates
from dlm.errors import UserError
from dlm.training.job import StageJob

ROWS_FILE = "rows.jsonl"
"""In the export of a stage that generates: what it wrote."""
NOTHING_YET: Mapping[str, Path] = {}


def build_source(
    config: SourceConfig,
    root: str | None,
    part: Literal["train", "validation"],
    normalise: Literal["none", "nfc"] = "none",
    exports: Mapping[str, Path] = NOTHING_YET,
) -> Source:
    """One source of a part; ``data.root`` chooses between its local files and its hub data set.

    ``exports``: where earlier stages lie. Without them a source that is a stage has no file: what
    is asked then is what decides its rows, which its fingerprint does.
    """
    path, parallel = local_path(config, root), local_texts(config, root)
    local = path is not None or bool(parallel)
    if config.stage is not None and config.stage in exports:
        path = exports[config.stage] / ROWS_FILE
    options = dict(config.options)
    holdout = None
    if config.holdout.share is not None:
        by = tuple(config.holdout.by)
        holdout = Holdout(config.holdout.part or part, config.holdout.share, by)
    return Source(
        # Both parts of a set that is split by content are in its one split.
        split=config.split or ("train" if holdout else part),
        path=path,
        parallel=parallel,
        format=config.format,
        delimiter=config.delimiter,
        encoding=config.encoding,
        hub=None if local else config.hub,
        hub_config=config.hub_config,
        hub_files=config.hub_files,
        revision=config.revision,
        streaming=config.streaming,
        stage=config.stage,
        generator=config.generator,
        # The rows have a seed of their own: another seed of the run draws other noise and order
        # over the same rows.
        seed=options.pop("seed", 0),
        options=options,
        count=config.count or 0,
        fields=dict(config.hub_fields if not local and config.hub_fields else config.fields),
        columns=() if path is None else tuple(config.columns),
        unquoted=path is not None and config.unquoted,
        id_field=config.id_field,
        holdout=holdout,
        limit=config.limit,
        normalise=normalise,
    )


def build_sources(
    config: StageConfig, exports: Mapping[str, Path] = NOTHING_YET
) -> tuple[list[Source], list[Source]]:
    """Training and validation sources of a stage; ``exports`` as in :func:`build_source`."""
    data = config.data

    def built(part: Literal["train", "validation"]) -> list[Source]:
        given = sources_read(config)[part]
        return [build_source(source, data.root, part, data.normalise, exports) for source in given]

    return built("train"), built("validation")


def build_bad_rows(job: StageJob, *, lists: bool = True) -> BadRows:
    """What becomes of the stage's bad rows; of several ranks one ``lists`` them."""
    listing = job.directory / "logs" / "bad_rows.jsonl" if lists else None
    return BadRows(job.config.data.on_bad_row, listing)


def masks_prompts(config: StageConfig) -> bool:
    """Whether noise may hit both sides of the stage's pairs (translation language modelling)."""
    return config.kind == "pretrain"


def masking_of(config: StageConfig) -> Masking:
    """What of a stage's rows may be predicted. The end token of a block is only where texts were
    cut, and is not learnt."""
    ends = config.kind == "autoregressive" and config.data.text_blocks is None
    return Masking(prompts=masks_prompts(config), text_ends=ends)


def build_examples(
    config: StageConfig, exports: Mapping[str, Path] = NOTHING_YET
) -> tuple[ExampleRecipe, ExampleRecipe | None]:
    """How the training and validation examples of a stage are made; ``exports`` as in
    :func:`build_source`. Those of a stage that generates need no response.

    Raises:
        UserError: Texts and rows with a prompt are given together where only responses are learnt.
    """
    data, task = config.data, task_of(config)
    if not masks_prompts(config):
        _check_one_shape(config)
    train, validation = (
        tuple(_task_source(*pair, data, task) for pair in zip(sources, configs, strict=True))
        for sources, configs in zip(
            build_sources(config, exports), sources_read(config).values(), strict=True
        )
    )
    few_shot, shown = None, None
    if data.few_shot.count:
        few_shot = FewShot(
            data.few_shot.count, data.few_shot.separator, data.few_shot.joiner,
            data.few_shot.pool_rows,
        )  # fmt: skip
        shown = next(s for s in train if data.few_shot.source in (None, s.name))
    if config.kind == "generate":
        train = tuple(replace(source, answered=False) for source in train)
    recipes = [
        ExampleRecipe(sources, data.seed, few_shot, shown, data.deduplicate)
        for sources in (train, validation)
    ]
    return recipes[0], recipes[1] if validation else None


def build_mixture(data: DataConfig) -> MixtureSettings | None:
    """The shares of the training sources; None: every row once an epoch."""
    mixture = data.mixture
    if not mixture.weights and mixture.temperature is None and mixture.cap is None:
        return None
    return MixtureSettings(mixture.weights, mixture.temperature, mixture.cap)


def _check_one_shape(config: StageConfig) -> None:
    task = task_of(config)
    for source in (*config.data.train, *config.data.validation):
        own = source.task or task
        if TASKS[own].conditional != TASKS[task].conditional:
            raise UserError(
                f"source '{source_name(source)}' has the task {own} and data.task is {task}: texts "
                "and rows with a prompt do not train together, except in a stage of kind pretrain, "
                "which masks both; give them stages of their own"
            )


def _task_source(source: Source, config: SourceConfig, data: DataConfig, task: str) -> TaskSource:
    own = config.task or task
    return TaskSource(
        source_name(config), source, own, tuple(_templates(config, data, own, own == task)),
        {name: tuple(values) for name, values in config.leave_out.items()},
        {name: tuple(values) for name, values in config.keep_only.items()},
        ignored_fields=tuple(config.ignored_fields),
    )  # fmt: skip


def _templates(config: SourceConfig, data: DataConfig, task: str, same: bool) -> list[Template]:
    """The source's own template, else that of ``data`` where it is of the same task."""
    if task == "text":
        return [Template.of(task, response=config.response or data.text)]
    if config.prompt is not None or config.response is not None:
        return [Template.of(task, config.prompt, config.response)]
    if same and data.templates:
        return [Template(template.prompt, template.response) for template in data.templates]
    if data.vary_prompts:
        return [Template(*pair) for pair in shipped_templates()[task]]
    return [Template.of(task, data.prompt, data.response) if same else Template.of(task)]
