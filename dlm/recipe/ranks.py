"""Which process of a distributed job this one is, and whether its settings say so too."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dlm.config.schema import HardwareConfig
from dlm.errors import UserError

_INTERACTIVE = ("bash", "interactive")
"""Names of Slurm jobs in which Lightning starts the ranks itself."""
LEADER_ALONE = ("tokenizer",)
"""Stage kinds that one process carries out: further ranks would write the same files."""
OUTSIDE_TRAINING = ("generate", "evaluate")
"""Stage kinds whose ranks only share work: where rank 0 is set to do it alone, the others wait."""


@dataclass(frozen=True)
class Launcher:
    """What has started the ranks."""

    name: str
    world_size: int
    num_nodes: int

    @property
    def devices(self) -> int:
        """Ranks on each node."""
        return self.world_size // self.num_nodes

    def remedy(self, devices: int, num_nodes: int) -> str:
        """How to start as many ranks as that."""
        if self.name == "torchrun":
            return f"torchrun --nnodes {num_nodes} --nproc-per-node {devices}"
        return f"srun --nodes {num_nodes} --ntasks-per-node {devices}"


def found_launcher() -> Launcher | None:
    """The launcher, with Slurm's figures of the step set straight for Lightning.

    It knows ``srun -n`` alone as a mistake, and reads what ``sbatch`` was given even where the step
    has other tasks.

    Raises:
        UserError: The nodes have different numbers of ranks.
    """
    started = launcher()
    if started is None:
        return None
    if started.world_size % started.num_nodes:
        raise UserError(
            f"{started.name} started {started.world_size} ranks on {started.num_nodes} nodes: "
            f"start as many on each, {started.remedy(started.devices + 1, started.num_nodes)}"
        )
    if started.name == "srun":
        os.environ["SLURM_NTASKS_PER_NODE"] = str(started.devices)
        os.environ["SLURM_NNODES"] = str(started.num_nodes)
    return started


def launcher(environment: Mapping[str, str] = os.environ) -> Launcher | None:
    """torchrun, or srun; None where this process may start further ranks itself."""
    if "TORCHELASTIC_RUN_ID" in environment:
        nodes = environment.get("GROUP_WORLD_SIZE", "1")
        return Launcher("torchrun", int(environment["WORLD_SIZE"]), int(nodes))
    if "SLURM_STEP_ID" in environment and environment.get("SLURM_JOB_NAME") not in _INTERACTIVE:
        tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS", "1")
        nodes = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES", "1")
        return Launcher("srun", int(tasks), int(nodes))
    return None


def devices_per_node(hardware: HardwareConfig) -> int:
    """What ``hardware.devices`` stands for: all GPUs, or one CPU process, where it is not set."""
    if hardware.devices is not None or hardware.accelerator == "cpu":
        return hardware.devices or 1
    import torch

    return max(1, torch.cuda.device_count())


def check_ranks(stages: Iterable[tuple[str, str, HardwareConfig]]) -> None:
    """Refuse stages (name, kind, hardware) that expect other ranks than there are, or are to be.

    Raises:
        UserError: It names the numbers and the ways on.
    """
    wanted: dict[str, tuple[int, int]] = {}
    kinds: dict[str, str] = {}
    for name, kind, hardware in stages:
        if kind not in LEADER_ALONE:
            wanted[name] = devices_per_node(hardware), hardware.num_nodes
            kinds[name] = kind
    if (started := found_launcher()) is not None:
        for name, (devices, nodes) in wanted.items():
            if (devices, nodes) != (started.devices, started.num_nodes):
                raise UserError(_contradiction(started, name, devices, nodes))
        return
    ranks: tuple[str, int] | None = None
    for name, (devices, nodes) in wanted.items():
        if devices * nodes == 1 and kinds[name] in OUTSIDE_TRAINING:
            continue
        if ranks is not None and devices * nodes != ranks[1]:
            raise UserError(
                f"stage {name} is set to {devices * nodes} ranks (hardware.devices={devices}, "
                f"hardware.num_nodes={nodes}) where the ranks of stage {ranks[0]}, {ranks[1]} of "
                f"them, still run: give both the same hardware.devices, or run stage {name} by a "
                f"command of its own, --from {name}"
            )
        if devices * nodes > 1:
            ranks = (name, devices * nodes)


def _contradiction(started: Launcher, name: str, devices: int, num_nodes: int) -> str:
    return (
        f"{started.name} started {started.world_size} ranks, {started.devices} on each of "
        f"{started.num_nodes} nodes, where stage {name} is set to {devices * num_nodes} "
        f"(hardware.devices={devices}, hardware.num_nodes={num_nodes}): set "
        f"hardware.devices={started.devices} hardware.num_nodes={started.num_nodes}, or start by "
        f"{started.remedy(devices, num_nodes)}"
    )
