"""What a training step spends its time on, measured on a stage's own rows; nothing is kept."""

import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor

from dlm.callbacks.nonfinite import NonFinite
from dlm.callbacks.stopwatch import Stopwatch
from dlm.callbacks.throughput import Figures, Throughput
from dlm.distributed.strategies import run_shape
from dlm.models.backbone import Backbone
from dlm.stages.work import StageWork
from dlm.training.builders import build_stage
from dlm.training.data import build_data
from dlm.training.device import computes_on_cpu, peak_notes, peak_tflops
from dlm.training.job import StageJob
from dlm.training.layout import choose_layout
from dlm.training.response_positions import settle_positions
from dlm.training.start import starting_point
from dlm.training.train import (
    prepare_process,
    set_up_network,
    trainer_settings,
    weight_average,
)

_NETWORK = "network"
_ACTIONS = {
    "train_dataloader_next": "wait",
    "batch_to_device": "transfer",
    "training_step": "loss",
    _NETWORK: "forward",
    "backward": "backward",
    "run_training_batch": "optimizer",
}
"""Lightning's actions: the inner one's time counts there alone, so that what is left of the batch
is the optimizer's, and what is left of the training step is the loss."""


@dataclass(frozen=True)
class StepCosts:
    """The mean step."""

    figures: Figures
    seconds: dict[str, float]
    """Of a step, by part: data, forward, loss, backward, optimizer, and what is left."""
    device: str
    shape: str
    """Strategy and processes in words."""
    peak_tflops: float | None
    recompilations: int | None
    """After the warm-up; None: nothing is compiled."""
    notes: tuple[str, ...]

    @property
    def seconds_per_step(self) -> float:
        """All parts."""
        return self.figures.seconds / self.figures.steps


def bench_stage(job: StageJob, *, steps: int, warmup: int) -> StepCosts | None:
    """Train some steps from the stage's start, without a validation or a save.

    Returns:
        The costs on the first rank, None on others.

    Raises:
        UserError: The data or the configuration does not fit.
        StageFailed: A loss or a gradient is not finite.
    """
    config = job.config
    prepare_process(job)
    start = starting_point(job)
    packed, layout_notes = choose_layout(job, start)
    data = build_data(job, start, packed=packed, lists=False)
    settle_positions(job, start.backbone, data)
    stage = build_stage(job, start, data)
    notes = [*layout_notes, *set_up_network(job, start), *peak_notes(config)]

    gpu = not computes_on_cpu(config.hardware.accelerator) and torch.cuda.is_available()
    watch = Stopwatch(_ACTIONS, torch.cuda.synchronize if gpu else None)
    time_network(start.backbone, watch)
    meter = Throughput(
        StageWork.of(stage), watch, every_n_steps=warmup + steps, peak_tflops=peak_tflops(config),
        left_out=warmup, warmup=warmup,
    )  # fmt: skip
    non_finite = NonFinite(job.name, action=config.train.on_nonfinite, every_n_steps=warmup + steps)
    with tempfile.TemporaryDirectory(prefix="dlm-bench-") as nowhere:
        trainer = Trainer(
            **trainer_settings(config, data), max_steps=warmup + steps, limit_val_batches=0,
            num_sanity_val_steps=0, log_every_n_steps=warmup + steps, logger=False,
            callbacks=[meter, non_finite, *weight_average(job)], profiler=watch,
            default_root_dir=nowhere,
        )  # fmt: skip
        trainer.fit(stage, data)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not trainer.is_global_zero:
        return None
    return StepCosts(
        figures=meter.total,
        seconds=_parts(meter.total),
        device=torch.cuda.get_device_name() if gpu else "CPU",
        shape=run_shape(trainer.strategy),
        peak_tflops=meter.peak_tflops,
        recompilations=meter.recompilations,
        notes=tuple(notes),
    )


def time_network(backbone: Backbone, watch: Stopwatch) -> None:
    """Time the network's part of the training step by itself."""
    hidden = backbone.hidden

    def timed(*args: Any, **kwargs: Any) -> Tensor:
        with watch.profile(_NETWORK):
            return hidden(*args, **kwargs)

    setattr(backbone, "hidden", timed)  # noqa: B010 - a method, in place of which mypy takes none


def _parts(figures: Figures) -> dict[str, float]:
    measured = {name: seconds / figures.steps for name, seconds in figures.parts.items()}
    named = {"data": measured.pop("wait") + measured.pop("transfer")}
    named |= {name: measured[name] for name in ("forward", "loss", "backward", "optimizer")}
    return named | {"other": figures.seconds / figures.steps - sum(named.values())}
