"""How fast a stage trains, and what of the time and the memory goes where.

Tokens are counted on the host, where a batch is made; the device is waited for at the logging
interval alone. The time of a step reaches from the end of the one before to its own: waiting for
the batch is in it. A step that follows a validation, or before which a state is saved, is left out
with its time and its tokens, and so are the first ones of an attempt, in which there is much to
prepare.
"""

import json
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from dlm.callbacks import stopwatch
from dlm.callbacks.stopwatch import Stopwatch
from dlm.files import write_side_file
from dlm.stages.base import TrainingStage
from dlm.stages.work import StageWork

GIB = 2**30


@dataclass
class Figures:
    """Of some steps, over all devices."""

    steps: int = 0
    seconds: float = 0.0
    """Of these steps together; the devices' mean."""
    tokens: int = 0
    """Read by the network, without padding; noisy copies of a row count once."""
    positions: int = 0
    """Those that it computed, padding too."""
    flops: float = 0.0
    """Useful ones (dlm/planning/flops.py)."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds of the stopwatch's parts; the devices' mean."""
    memory: int = 0
    """Peak in bytes, of the device that needed most."""
    possible_flops: float | None = 0.0
    """What all devices together could have done in that time at best; None: not known."""

    @property
    def steps_per_s(self) -> float:
        """Optimizer steps."""
        return self.steps / max(self.seconds, 1e-9)

    @property
    def tokens_per_s(self) -> float:
        """Over all devices."""
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def mfu(self) -> float | None:
        """Useful FLOP/s as a share of the peak."""
        return self.flops / self.possible_flops if self.possible_flops else None

    @property
    def padding_share(self) -> float:
        """Share of the network's positions that hold no token."""
        return 1 - self.tokens / max(self.positions, 1)

    @property
    def wait_share(self) -> float:
        """Share of the time in which the trainer waited for the next batch."""
        return self.parts.get("wait", 0.0) / max(self.seconds, 1e-9)

    def add(self, other: "Figures") -> None:
        """Take in other steps."""
        self.steps += other.steps
        self.seconds += other.seconds
        self.tokens += other.tokens
        self.positions += other.positions
        self.flops += other.flops
        for name, seconds in other.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + seconds
        self.memory = max(self.memory, other.memory)
        if self.possible_flops is None or other.possible_flops is None:
            self.possible_flops = None
        else:
            self.possible_flops += other.possible_flops

    def as_metrics(self) -> dict[str, float]:
        """For manifest and log."""
        mfu = {} if self.mfu is None else {"mfu": round(self.mfu, 4)}
        return {
            "steps_per_s": round(self.steps_per_s, 4),
            "tokens_per_s": round(self.tokens_per_s, 1),
            **mfu,
            "padding_share": round(self.padding_share, 4),
            "data_wait_share": round(self.wait_share, 4),
            "peak_memory_gib": round(self.memory / GIB, 3),
        }


class Throughput(Callback):
    """Must come before the callbacks that show its figures."""

    def __init__(
        self,
        work: StageWork,
        watch: Stopwatch,
        *,
        every_n_steps: int,
        peak_tflops: float | None = None,
        left_out: int = 1,
        warmup: int = 20,
        log: Callable[[Mapping[str, float], int], None] | None = None,
        record: Path | None = None,
    ) -> None:
        """
        Args:
            work: FLOPs of the stage's batches.
            watch: The trainer's profiler; its part ``wait`` is the wait for batches.
            every_n_steps: Interval of the figures.
            peak_tflops: One device's; None: there is no MFU.
            left_out: Steps at the beginning that do not count, at least 1.
            warmup: Steps after which nothing should be compiled any more.
            log: Takes an interval's figures and the number of steps done.
            record: Where the figures of earlier attempts at the stage are, and are kept for later
                ones; None: nothing is kept.
        """
        self.work, self.watch = work, watch
        self.every_n_steps = every_n_steps
        self.peak_tflops = peak_tflops
        self.left_out = left_out
        self.warmup = warmup
        self.log_figures = log
        self.record = record
        self.total, self.steps_before = earlier_figures(record)
        """Of all attempts, up to the last interval; and how many steps earlier ones did."""
        self.latest: Figures | None = None
        """Of the last interval; None: all its steps were left out."""
        self.steps = 0
        """All that this attempt did."""
        self.recompilations: int | None = None
        """Graphs compiled after the warm-up; None: nothing is compiled, or it is not over."""
        self._graphs_before = 0
        self._interval = Figures()
        self._step = Figures()
        self._since = 0.0
        self._disturbed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        device = trainer.strategy.root_device
        if device.type == "cuda":
            # The process may have trained an earlier stage.
            torch.cuda.reset_peak_memory_stats(device)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._disturbed = True

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._disturbed = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingStage)
        counts = pl_module.read_by_network(batch)
        self._step.tokens += counts.tokens
        self._step.positions += counts.positions
        self._step.flops += self.work.flops(counts, pl_module.predicted_tokens)
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        done = trainer.global_step
        at_interval = done % self.every_n_steps == 0 or done == trainer.max_steps
        if at_interval and trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize(trainer.strategy.root_device)
        self._end_step()
        if at_interval:
            self._end_interval(trainer)

    def _end_step(self) -> None:
        now = stopwatch.clock()
        step, self._step = self._step, Figures()
        step.steps, step.seconds = 1, now - self._since
        step.parts = self.watch.take()
        if self.steps >= self.left_out and not self._disturbed:
            self._interval.add(step)
        self.steps += 1
        self._count_graphs()
        self._since, self._disturbed = now, False

    def _count_graphs(self) -> None:
        graphs = compiled_graphs()
        if self.steps <= self.warmup:
            self._graphs_before = graphs
        elif graphs:
            self.recompilations = graphs - self._graphs_before

    def _end_interval(self, trainer: Trainer) -> None:
        mine, self._interval = self._interval, Figures()
        device = trainer.strategy.root_device
        mine.memory = peak_memory(device)
        figures = _of_all_devices(trainer, mine)
        peak = self.peak_tflops
        figures.possible_flops = peak and peak * 1e12 * trainer.world_size * figures.seconds
        self.total.add(figures)
        self._keep(trainer)
        self.latest = figures if figures.steps else None
        if figures.steps and self.log_figures is not None:
            self.log_figures(figures.as_metrics(), trainer.global_step)

    def _keep(self, trainer: Trainer) -> None:
        """For a later attempt, should this one end early."""
        if self.record is not None and trainer.is_global_zero:
            steps = self.steps_before + self.steps
            write_side_file(self.record, {"steps": steps, "figures": asdict(self.total)})

    def metrics(self) -> dict[str, Any]:
        """For the manifest: the figures of all attempts, and of how many of their steps."""
        if not self.total.steps:
            return {}
        peak = {} if self.peak_tflops is None else {"peak_tflops": self.peak_tflops}
        measured = {
            "tokens": self.total.tokens,
            "steps": self.total.steps,
            "seconds": round(self.total.seconds, 3),
        }
        if self.recompilations is not None:
            measured["recompilations"] = self.recompilations
        return {"throughput": self.total.as_metrics() | peak | measured}

    def note(self) -> str:
        """The figures of all attempts in a line."""
        if not self.total.steps:
            return (
                f"throughput: not measured: each of the {self.steps} steps was the attempt's first "
                "or followed a validation or a save"
            )
        again = ""
        if self.recompilations:
            again = f", {self.recompilations} graphs compiled after step {self.warmup}"
        figures = f"{self.total.tokens_per_s:,.0f} tokens/s{mfu_text(self.total, self.peak_tflops)}"
        steps = self.steps_before + self.steps
        attempts = " of all attempts" if self.steps_before else ""
        return (
            f"throughput: {figures}, padding {self.total.padding_share:.1%}, waiting for data "
            f"{self.total.wait_share:.1%}, peak memory {self.total.memory / GIB:.2f} GiB{again} "
            f"(of {self.total.steps} of {steps} steps{attempts})"
        )


def earlier_figures(record: Path | None) -> tuple[Figures, int]:
    """What earlier attempts measured, and how many steps they did: 0 by a damaged record."""
    try:
        values = json.loads(record.read_text()) if record is not None else {}
        return Figures(**values["figures"]), int(values["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return Figures(), 0


def compiled_graphs() -> int:
    """Graphs that torch.compile has compiled in this process."""
    if "torch._dynamo" not in sys.modules:  # importing it takes a while
        return 0
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def mfu_text(figures: Figures, peak_tflops: float | None) -> str:
    """``, MFU 31.2 % of 989 TFLOP/s``, or nothing where the peak is not known."""
    if figures.mfu is None:
        return ""
    return f", MFU {figures.mfu:.1%} of {peak_tflops:g} TFLOP/s"


def rate_text(tokens_per_s: float) -> str:
    """``12.3k tok/s``."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if tokens_per_s >= size:
            return f"{tokens_per_s / size:.1f}{unit} tok/s"
    return f"{tokens_per_s:.0f} tok/s"


def peak_memory(device: torch.device) -> int:
    """Bytes: what torch had allocated on a GPU at most, else the process's largest resident size
    in its life."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _of_all_devices(trainer: Trainer, mine: Figures) -> Figures:
    """Sums, means of times, the largest memory. Every rank calls it after the same steps."""
    if trainer.world_size == 1:
        return mine
    names = sorted(mine.parts)
    values = [mine.steps, mine.seconds, mine.tokens, mine.positions, mine.flops, mine.memory,
              *(mine.parts[name] for name in names)]  # fmt: skip
    own = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    gathered = [torch.empty_like(own) for _ in range(trainer.world_size)]
    torch.distributed.all_gather(gathered, own)
    every_RK = torch.stack(gathered).cpu()
    mean_K, sum_K, most_K = (
        combined.tolist()
        for combined in (every_RK.mean(dim=0), every_RK.sum(dim=0), every_RK.amax(dim=0))
    )
    return Figures(
        steps=int(most_K[0]), seconds=mean_K[1], tokens=int(sum_K[2]), positions=int(sum_K[3]),
        flops=sum_K[4], memory=int(most_K[5]),
        parts=dict(zip(names, mean_K[6:], strict=True)),
    )  # fmt: skip
