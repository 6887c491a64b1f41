"""The rows and batches of a stage, built from its configuration."""

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from transformers import PreTrainedTokenizerBase

from dlm.config.checks.data import task_of, tasks_of
from dlm.config.schema import StageConfig
from dlm.data.batches.token_budget import longest_row, smallest_budget
from dlm.data.modules import BatchSettings, CanvasSettings, RowsDataModule
from dlm.data.overlap import OverlapIndex
from dlm.data.rows.wanted import RowSides
from dlm.data.task_modules import DATA_MODULES
from dlm.errors import UserError
from dlm.evaluation.task_rows import read_task
from dlm.evaluation.tasks import load_task
from dlm.training.job import StageJob
from dlm.training.response_positions import known_positions
from dlm.training.sources import build_bad_rows, build_examples, build_mixture, masking_of
from dlm.training.start import StartingPoint


def devices_in_use(config: StageConfig) -> int:
    """Number of devices over all nodes."""
    import torch

    hardware = config.hardware
    gpu = hardware.accelerator != "cpu" and torch.cuda.is_available()
    per_node = hardware.devices or (torch.cuda.device_count() if gpu else 1)
    return per_node * hardware.num_nodes


def accumulation(config: StageConfig) -> int:
    """Micro-batches per optimizer step and device.

    Raises:
        UserError: The batch sizes do not divide; the message says which would.
    """
    devices, total = devices_in_use(config), config.train.batch_rows
    if total is None:
        tokens = config.train.global_batch_tokens
        assert tokens is not None, "checked when the recipe was read"
        micro = config.train.micro_batch_tokens or tokens
        return -(-tokens // (devices * micro))
    if total % devices:
        raise UserError(
            f"train.global_batch_size={total} is not divisible by {devices} devices: "
            f"use {total // devices * devices or devices} or {(total // devices + 1) * devices}"
        )
    micro = config.train.micro_batch_size or total // devices
    if total % (devices * micro):
        raise UserError(
            f"train.global_batch_size={total} is not divisible by micro_batch_size x devices = "
            f"{micro} x {devices}: use a multiple of {devices * micro}"
        )
    return total // (devices * micro)


def build_data(
    job: StageJob, start: StartingPoint, *, packed: bool = False, lists: bool = True
) -> RowsDataModule:
    """The stage's DataModule, read and tokenized, for the network that it starts from.

    Raises:
        UserError: As :func:`build_rows`.
    """
    return build_rows(job, start.tokenizer, start.backbone.max_length, packed=packed, lists=lists)


def build_rows(
    job: StageJob,
    tokenizer: PreTrainedTokenizerBase,
    max_positions: int,
    *,
    packed: bool = False,
    lists: bool = False,
) -> RowsDataModule:
    """The stage's DataModule for a network of this many positions; ``packed``: rows share its rows;
    ``lists``: rows that are skipped are listed in the stage's logs.

    Raises:
        UserError: The data is missing, broken or does not fit the model.
    """
    config = job.config
    data = config.data
    train, validation = build_examples(config, job.exports)
    if data.max_length > max_positions and config.init_from is None:
        raise UserError(
            f"data.max_length={data.max_length} is more than the model's "
            f"{max_positions} positions: lower it"
            + ("" if config.model.pretrained else ", or raise model.max_positions")
        )
    max_length = min(data.max_length, max_positions)
    text_blocks = data.text_blocks if "text" in tasks_of(config) else None
    if (text_blocks or 0) > max_length:
        raise UserError(
            f"data.text_blocks={data.text_blocks} is more than the model's {max_length} positions: "
            "lower it"
        )
    accumulate = accumulation(config)
    overlap = build_overlap(job)
    module = DATA_MODULES[task_of(config)](
        train=train, validation=validation, tokenizer=tokenizer, max_length=max_length,
        too_long=data.too_long, text_blocks=text_blocks, masking=masking_of(config),
        cache=None if data.cache is None else Path(data.cache).expanduser(),
        say=lambda note: rank_zero_only(print)(f"{job.name}: {note}", flush=True),
        mixture=build_mixture(data), overlap=overlap,
        batches=BatchSettings(
            global_batch_size=config.train.batch_rows,
            accumulate=accumulate,
            validation_batch_size=config.validation.batch_size,
            validation_rows=config.validation.max_rows,
            # A length predictor's label is the length: its batches must not be of like length.
            length_grouping=0 if config.kind == "length" else config.train.length_grouping,
            num_workers=config.hardware.num_workers,
            seed=job.seed,
            global_batch_tokens=config.train.global_batch_tokens,
            packed=packed,
            with_step=config.objective.normaliser == "masked_tokens",
        ),
        canvas=build_canvas(config), sides=row_sides(job, max_positions),
        bad_rows=build_bad_rows(job, lists=lists and getattr(rank_zero_only, "rank", 0) == 0),
    )  # fmt: skip
    if config.train.global_batch_tokens is not None:
        longest = longest_row(module.train_rows.lengths)
        _check_token_budget(config, longest, devices_in_use(config), accumulate)
    if overlap is not None and data.overlap == "refuse":
        overlap.refuse()
    return module


def _check_token_budget(config: StageConfig, longest: int, devices: int, accumulate: int) -> None:
    """Refuse a budget with which a device could be left without a row.

    Raises:
        UserError: It is too small for the longest row; the message says what would fit.
    """
    tokens, parts = config.train.global_batch_tokens or 0, devices * accumulate
    if tokens >= smallest_budget(longest, parts):
        return
    micro_batches = max(tokens // (2 * longest), int(tokens >= longest)) // devices
    if micro_batches:
        least = -(-tokens // (devices * micro_batches))
        fits = f"set train.micro_batch_tokens to at least {least}"
    else:
        alone = " and no train.micro_batch_tokens" if accumulate > 1 else ""
        fits = f"use at least {smallest_budget(longest, devices)}{alone}"
    raise UserError(
        f"train.global_batch_tokens={tokens} is too little for {devices} devices x {accumulate} "
        f"micro-batches, where rows have up to {longest} tokens and each micro-batch needs one: "
        f"{fits}, or leave long rows out (data.max_length, data.too_long=drop)"
    )


def row_sides(job: StageJob, max_positions: int) -> RowSides | None:
    """The room of prompts and responses where those start at one position that is known, and rows
    that are too long for it are left out or cut. (Others are refused once all are read, so that
    stages before and behind the first that has a start share their prepared rows.)"""
    where = known_positions(job)
    if where is None or where.start is None or job.config.data.too_long == "error":
        return None
    return RowSides(where.start, max_positions - where.start)


def build_canvas(config: StageConfig) -> CanvasSettings | None:
    """The canvas of a stage that trains with one."""
    length = config.data.canvas_length
    if length is None or config.kind not in ("adapt", "instruct"):
        return None
    return CanvasSettings(length, config.objective.canvas_padding == "trained")


def build_overlap(job: StageJob) -> OverlapIndex | None:
    """The evaluation texts to look for in training data; None where nobody asked.

    Raises:
        UserError: The recipe evaluates nothing, or a task's rows cannot be read.
    """
    data = job.config.data
    if data.overlap == "ignore":
        return None
    if not job.evaluation_sets:
        raise UserError(
            f"data.overlap={data.overlap}: the recipe has no evaluate stage to compare with: add "
            "one, or set data.overlap=ignore"
        )
    sets: dict[str, list[tuple[str, str]]] = {}
    for name, root in job.evaluation_sets:
        # Without demonstrations: those may well be training rows.
        task = load_task(name).with_few_shot(0)
        rows = read_task(task, root=root, limit=None)
        sets[task.name] = list(zip(rows.prompts, rows.references, strict=True))
    return OverlapIndex(sets, data.overlap_words)
