"""``train_stage``: the entry of everything that trains, to be read from top to bottom."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only

from dlm.callbacks import EMPTY_ANSWERS, LENGTH_RATIO
from dlm.callbacks.checkpoint import TrainingCheckpoint, newest_checkpoint, no_code_from
from dlm.callbacks.counted import SomethingCounts
from dlm.callbacks.ema import WeightAverage
from dlm.callbacks.generated_score import GeneratedScore
from dlm.callbacks.host_memory import HostMemory
from dlm.callbacks.last_validation import LastStepValidation
from dlm.callbacks.metrics_log import MetricsLog, logged_at
from dlm.callbacks.nonfinite import NonFinite
from dlm.callbacks.preemption import Deadline, Preemption
from dlm.callbacks.progress import StageProgress
from dlm.callbacks.step_curves import StepCurves
from dlm.callbacks.stopwatch import WAIT, Stopwatch
from dlm.callbacks.throughput import Throughput
from dlm.config.durations import seconds_of
from dlm.config.schema import HardwareConfig, StageConfig
from dlm.data.modules import RowsDataModule
from dlm.distributed.checkpoint_io import CheckpointFiles
from dlm.distributed.joining import slurm_environment
from dlm.distributed.strategies import DEFAULT_TIMEOUT_S, build_strategy
from dlm.errors import UserError
from dlm.generation.settings import GenerationSettings
from dlm.models.build import recompute_activations
from dlm.process import STARTED_S
from dlm.stages.base import TrainingStage
from dlm.stages.denoising import DenoisingStage
from dlm.stages.length import LengthPrediction
from dlm.stages.work import StageWork
from dlm.tokens.text_form import form_of
from dlm.training.builders import build_stage
from dlm.training.data import build_data
from dlm.training.device import (
    check_devices,
    check_precision,
    computes_on_cpu,
    peak_notes,
    peak_tflops,
    prepare_torch,
)
from dlm.training.export import export_stage
from dlm.training.exported_step import fitting_metric, monitored, scores_answers
from dlm.training.job import StageJob
from dlm.training.layout import choose_layout
from dlm.training.quiet import quiet_libraries
from dlm.training.response_positions import settle_positions
from dlm.training.rows_report import class_notes, data_notes, refuse_unknown_rows, rows_read
from dlm.training.start import StartingPoint, starting_point


def train_stage(job: StageJob) -> dict[str, Any]:
    """Train one stage to its end, from its newest checkpoint if it has one, and export it.

    Returns:
        What the manifest keeps: the exported step and its validation metrics.

    Raises:
        UserError: The data or the configuration does not fit.
        StageFailed: A checkpoint cannot be written, or none of them is whole.
        Preempted: A signal asked the stage to stop; its state is saved.
    """
    prepare_process(job)
    start = starting_point(job)
    packed, layout_notes = choose_layout(job, start)
    data = build_data(job, start, packed=packed)
    refuse_unknown_rows(data)
    placed = settle_positions(job, start.backbone, data)
    stage = build_stage(job, start, data)
    network_notes = set_up_network(job, start)

    resume, notes = newest_checkpoint(job.directory / "checkpoints")
    if resume is not None:
        notes.append(f"resuming from step {resume.step}")
    notes += [*layout_notes, *network_notes, *peak_notes(job.config), *data_notes(data)]
    if placed is not None:
        notes.append(placed)
    if isinstance(stage, DenoisingStage):
        notes.append(stage.description)
    if isinstance(stage, LengthPrediction):
        notes += class_notes(data, stage.predictor.max_length)
    score = generated_score(job, start, data)
    notes += metric_notes(job, score)
    for note in notes:
        rank_zero_only(print)(f"{job.name}: {note}", flush=True)
    checkpoint = build_checkpoint(job, score)
    resumed_step = resume.step if resume else 0
    meter = build_meter(job, stage, resumed_step)
    trainer = build_trainer(job, data, checkpoint, score, meter, resumed_step)
    with no_code_from(checkpoint.directory):
        trainer.fit(stage, data, ckpt_path=resume.state if resume else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if stalls := checkpoint.stalls_s:
        rank_zero_only(print)(
            f"{job.name}: {len(stalls)} saves, for each of which training waited "
            f"{median(stalls):.3f} s ({max(stalls):.3f} s at most)",
            flush=True,
        )
    if meter.steps:
        rank_zero_only(print)(f"{job.name}: {meter.note()}", flush=True)
    exported = export_stage(job, start, stage, data, trainer, checkpoint)
    return (
        exported
        | rows_read(data, job.config.train.steps)
        | skipped_steps(trainer)
        | (score.figures() if score else {})
        | empty_figures(job, exported["exported_step"])
        | meter.metrics()
    )


def skipped_steps(trainer: Trainer) -> dict[str, int]:
    """How many steps were left out, if any."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next(c.figures() for c in callbacks if isinstance(c, NonFinite))


def empty_figures(job: StageJob, step: int) -> dict[str, float]:
    """The share of empty answers that the exported step gave, if any, and how long they were."""
    logged = logged_at(metrics_file(job), step)
    if not logged.get(EMPTY_ANSWERS):
        return {}
    names = (EMPTY_ANSWERS, LENGTH_RATIO)
    return {name.replace("/", "_"): round(logged[name], 4) for name in names if name in logged}


def metrics_file(job: StageJob) -> Path:
    """Where a stage's curves are."""
    return job.directory / "logs" / "metrics.csv"


def build_checkpoint(job: StageJob, score: GeneratedScore | None) -> TrainingCheckpoint:
    """The callback that saves, and remembers the best step."""
    monitor, mode = monitored(job.config, score.metric_name if score else None)
    return TrainingCheckpoint(
        job.directory / "checkpoints",
        files=CheckpointFiles(background=job.config.checkpoint.background),
        every_n_steps=job.config.checkpoint.every_n_steps,
        keep=job.config.checkpoint.keep,
        monitor=monitor,
        mode=mode,
    )


def build_meter(job: StageJob, stage: TrainingStage, resumed_step: int) -> Throughput:
    """The callback that measures tokens per second and the like."""
    # A file of its own: what is in metrics.csv is the same in every run of a recipe.
    log = MetricsLog(job.directory / "logs" / "throughput.csv", resumed_step=resumed_step)
    return Throughput(
        StageWork.of(stage),
        Stopwatch(WAIT),
        every_n_steps=job.config.logging.every_n_steps,
        peak_tflops=peak_tflops(job.config),
        log=log.log_step,
        record=job.directory / "logs" / "throughput.json",
    )


def build_trainer(
    job: StageJob,
    data: RowsDataModule,
    checkpoint: TrainingCheckpoint,
    score: GeneratedScore | None,
    meter: Throughput,
    resumed_step: int,
) -> Trainer:
    """Lightning's trainer, with everything that the platform owns switched to ours."""
    config = job.config
    steps, hardware = config.train.steps, config.hardware
    callbacks: list[Any] = [
        meter,
        StageProgress(
            job.name, steps=steps, every_n_steps=config.logging.every_n_steps,
            file=job.directory / "checkpoints" / "progress.json", meter=meter,
        ),
        LastStepValidation(),
        NonFinite(
            job.name, action=config.train.on_nonfinite, every_n_steps=config.logging.every_n_steps
        ),
        SomethingCounts(job.name, monitor=checkpoint.monitor),
        StepCurves(),
        HostMemory(),
        *([score] if score else []),
        *weight_average(job),
        checkpoint,
        Preemption(job.name, checkpoint, build_deadline(hardware)),
    ]  # fmt: skip
    validates = data.validation_rows is not None
    return Trainer(
        **trainer_settings(config, data),
        max_steps=steps,
        # Counted within the one endless epoch: that count survives a resume.
        val_check_interval=config.validation.every_n_steps * data.batches.accumulate,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=config.logging.every_n_steps,
        logger=MetricsLog(metrics_file(job), resumed_step=resumed_step),
        profiler=meter.watch,
        callbacks=callbacks,
        plugins=[checkpoint.files, *slurm_environment()],
        default_root_dir=job.directory,
    )


def trainer_settings(config: StageConfig, data: RowsDataModule) -> dict[str, Any]:
    """Lightning's settings for a step as the configuration has it, ours alone."""
    hardware = config.hardware
    return {
        "accelerator": hardware.accelerator,
        "devices": hardware.devices or (1 if hardware.accelerator == "cpu" else "auto"),
        "num_nodes": hardware.num_nodes,
        "strategy": build_strategy(
            hardware.strategy,  # type: ignore[arg-type]  # fsdp is refused before any work
            cpu=computes_on_cpu(hardware.accelerator),
            offload=hardware.offload,
            timeout=timedelta(seconds=hardware.timeout_s or DEFAULT_TIMEOUT_S),
        ),
        "precision": config.train.precision,
        "max_epochs": -1,
        "accumulate_grad_batches": data.batches.accumulate,
        "gradient_clip_val": config.optim.gradient_clip,
        "use_distributed_sampler": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def prepare_process(job: StageJob) -> None:
    """Everything of a process that is to train, before anything is loaded.

    Raises:
        UserError: Its devices or its precision are not to be had here.
    """
    hardware = job.config.hardware
    quiet_libraries()
    check_devices(hardware.accelerator, hardware.devices)
    check_precision(job.config.train.precision, hardware.accelerator)
    prepare_torch(hardware.num_threads)
    torch.manual_seed(job.seed)


def set_up_network(job: StageJob, start: StartingPoint) -> list[str]:
    """How the network computes, as ``hardware`` says; gives what is to be said of it."""
    if job.config.hardware.compile:
        # In place: its weights keep their names.
        start.backbone.network.base_model.compile(dynamic=True)
    notes = set_recomputation(job, start)
    start.backbone.strict_speed = job.config.hardware.strict_speed
    start.backbone.say = lambda note: rank_zero_only(print)(f"{job.name}: {note}", flush=True)
    return notes


def set_recomputation(job: StageJob, start: StartingPoint) -> list[str]:
    """Activation checkpointing where it is asked for and saves something, else why not."""
    if not job.config.hardware.activation_checkpointing:
        return []
    if job.config.kind == "length":
        return ["hardware.activation_checkpointing is ignored: the backbone is not trained"]
    recompute_activations(start.backbone.network)
    return []


def weight_average(job: StageJob) -> list[WeightAverage]:
    """The moving average of the weights, where the stage has one."""
    decay = job.config.train.ema_decay
    return [] if decay is None else [WeightAverage(decay)]


def build_deadline(hardware: HardwareConfig) -> Deadline | None:
    """The end of this attempt, if it has one."""
    limit = hardware.max_time
    return None if limit is None else Deadline(seconds_of(limit), STARTED_S)


def generated_score(
    job: StageJob, start: StartingPoint, data: RowsDataModule
) -> GeneratedScore | None:
    """The generated validation score, where the stage has one."""
    config = job.config
    rows = data.validation_rows
    if not scores_answers(config) or rows is None:
        return None
    count = min(config.validation.generate_rows, len(rows))
    canvas = data.canvas
    on_canvas = canvas is not None and config.generation.length in ("canvas", None)
    # Otherwise there is no length predictor yet: it is trained on the finished backbone.
    settings = replace(config.generation, length="canvas" if on_canvas else "oracle", beam_size=1)
    if canvas is not None and on_canvas:
        settings = replace(settings, canvas_length=settings.canvas_length or canvas.length)
        room_for_canvas(start, settings, int(rows.prompt_lengths[:count].max()))
    form = form_of(start.tokenizer)
    references = [form.of(text) for text in rows.responses[:count]]
    return GeneratedScore(
        tokenizer=start.tokenizer,
        kind="autoregressive" if config.kind == "autoregressive" else "diffusion",
        prompts=rows.prompts[:count],
        references=references,
        settings=settings,
        canvas_length=canvas.length if canvas is not None else None,
        metric=config.validation.metric or fitting_metric(references),
        samples=config.logging.samples,
        directory=job.directory / "samples",
    )


def metric_notes(job: StageJob, score: GeneratedScore | None) -> list[str]:
    """That BLEU, the usual score, does not fit the validation rows."""
    if score is None or job.config.validation.metric or score.metric_name == "bleu":
        return []
    return [
        f"validation is scored by {score.metric_name}: most of its responses have fewer than "
        "four words, for which BLEU is 0 (validation.metric chooses another)"
    ]


def room_for_canvas(start: StartingPoint, settings: GenerationSettings, longest: int) -> None:
    """Refuse a longer canvas than training has, where a prompt and it are too long for the model.

    Raises:
        UserError: They have more tokens than the model has positions.
    """
    assert settings.canvas_length is not None
    if settings.canvas_length > start.backbone.room_behind(longest):
        raise UserError(
            f"generation.canvas_length={settings.canvas_length} does not fit behind a validation "
            f"prompt of {longest} tokens in {start.backbone.room_text}: lower it, or leave it "
            "out to take data.canvas_length"
        )
