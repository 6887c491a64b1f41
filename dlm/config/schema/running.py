"""Where and how often, never what: devices, checkpoints, logs."""

from dataclasses import dataclass
from typing import Literal

from dlm.setting import where


@dataclass(frozen=True)
class CheckpointConfig:
    """Resuming; never changes the numbers."""

    every_n_steps: int = where(200)
    """Save the complete training state after this many optimizer steps."""
    keep: int = where(2)
    """Newest checkpoints kept, the best one comes on top."""
    background: bool = where(True)
    """Write while training goes on: it waits only for a copy of its state in the host's memory,
    which is kept for the next save. Off, it waits for the disk."""


@dataclass(frozen=True)
class HardwareConfig:
    """Where it runs; never what."""

    accelerator: Literal["auto", "cpu", "gpu"] = where("auto")
    """Device type."""
    devices: int | None = where(None)
    """Devices per node. Default: all GPUs, or one CPU process."""
    num_nodes: int = where(1)
    """Number of nodes."""
    strategy: Literal["auto", "ddp", "zero1", "zero2", "zero3", "fsdp"] = where("auto")
    """auto: one device, or DDP on several. DeepSpeed's ZeRO cuts over the devices the optimizer's
    state (zero1), the gradients too (zero2), the weights too (zero3); it runs on CPUs as well. A
    checkpoint of one is continued by any other, on any number of devices."""
    offload: Literal["none", "optimizer", "parameters"] = where("none")
    """zero1 to zero3: keep the optimizer's state in the host's memory; zero3 alone: the parameters
    too. Slower, for models that do not fit otherwise."""
    max_time: str | None = where(None)
    """How long one attempt may take, from the start of the process: 3h30m, 45m, 3300s, or in
    quotes "00:55:00". Between two steps, when another one and a save may come too late, the stage
    saves and the run ends with exit code 75: run the same command again. None: no limit."""
    timeout_s: float | None = where(None)
    """Strategies ddp and zero1 to 3: how long a rank waits for the others in a collective operation
    before it gives up. Longer than the longest validation of one rank. None: 30 minutes."""
    num_workers: int = where(0)
    """Processes that prepare batches; the order of samples does not depend on them."""
    num_threads: int | None = where(None)
    """CPU threads of torch; None leaves torch's choice."""
    compile: bool = where(False)
    """Train a network that is compiled in place by torch.compile. Generation is not compiled: it
    gained nothing to speak of on a CPU (benchmarks/README.md)."""
    strict_speed: bool = where(False)
    """Where packed rows cannot take the fast attention of whole documents (device, precision,
    dropout of attention on a GPU, annealed attention), stop and say why, not only say so."""
    activation_checkpointing: bool = where(False)
    """Keep only the input of each transformer layer, and compute what is inside again in the
    backward pass: less memory, about a third more time, the same numbers. A length stage, whose
    backbone is frozen, has nothing to gain and ignores it."""


@dataclass(frozen=True)
class LoggingConfig:
    """What is written while a stage runs."""

    every_n_steps: int = where(20)
    """One line and one row of metrics.csv after this many steps."""
    samples: int = where(8)
    """Validation rows whose generated text is kept in samples/."""
