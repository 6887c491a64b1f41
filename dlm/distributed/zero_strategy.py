"""DeepSpeed's ZeRO as a Lightning strategy that saves, and continues from, any shape of run."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch import Tensor, nn

from dlm.distributed.portable import GROUPS, TIED, is_sharded
from dlm.distributed.saved_tensors import (
    SHARD_DIRECTORY,
    STATE_FILE,
    OneFile,
    PiecesOfRanks,
    SavedTensors,
    load_mapped,
)
from dlm.distributed.zero_state import (
    groups_of,
    local_ranges,
    optimizer_step,
    pieces_of,
    put_part,
    restore,
)

Offload = Literal["none", "optimizer", "parameters"]


class ZeroStrategy(DeepSpeedStrategy):
    """ZeRO stage 1, 2 or 3, on GPUs or, for tests and laptops, on the CPU with gloo.

    Two things differ from Lightning's. A checkpoint is a plain file of the trainer's state and one
    file of plain tensors a rank, in place of DeepSpeed's pickles: any other strategy and number of
    ranks reads it. And the CPU is let in.
    """

    def __init__(
        self, stage: int, *, cpu: bool, offload: Offload = "none", timeout: timedelta
    ) -> None:
        """``offload``: what lies in the host's memory, ``parameters`` the optimizer too."""
        if cpu:
            prepare_for_cpu()
        super().__init__(
            stage=stage,
            offload_optimizer=offload != "none",
            offload_parameters=offload == "parameters",
            pin_memory=not cpu,
            # Otherwise Lightning builds the data loader once more, only to log its batch size.
            logging_batch_size_per_gpu=1,
            process_group_backend="gloo" if cpu else None,
            timeout=timeout,
        )
        self._beside: dict[str, dict[str, Tensor]] = {}
        self._saved: SavedTensors | None = None
        self.stage = stage
        self.cpu = cpu
        assert isinstance(self.config, dict)
        # Ours is torch's AdamW wherever it runs.
        self.config["zero_force_ds_cpu_optimizer"] = False
        if cpu:
            # Small parameters are cut too: tiny networks must not behave unlike great ones.
            self.config["zero_optimization"]["stage3_param_persistence_threshold"] = 0

    @property
    def description(self) -> str:
        """The shape of the run in words."""
        return f"ZeRO-{self.stage} on {self.world_size} processes"

    @property
    def checkpoint_files(self) -> tuple[str, ...]:
        """All files of a checkpoint."""
        shards = (shard_name(rank) for rank in range(self.world_size))
        return (STATE_FILE, *shards)

    @property
    def root_device(self) -> torch.device:
        # DeepSpeed wants an index.
        return torch.device("cpu", self.local_rank) if self.cpu else super().root_device

    def setup_environment(self) -> None:
        if not self.cpu:
            super().setup_environment()
            return
        assert self.accelerator is not None
        self.setup_distributed()
        self.accelerator.setup_device(torch.device("cpu"))

    def setup_distributed(self) -> None:
        if not self.cpu:
            super().setup_distributed()
            return
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    def keep_beside(self, kind: str, tensors: dict[str, Tensor]) -> None:
        """Save further tensors, as long as this rank's masters, by the parameter's name; after a
        resume they are filled from the checkpoint."""
        self._beside[kind] = tensors
        if self._saved is not None:
            for kept in local_ranges(self.deepspeed_engine):
                put_part(kept, tensors[kept.name], self._saved, kind)

    def init_deepspeed(self) -> None:
        super().init_deepspeed()
        limit_waiting(self._timeout)

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Nothing: each rank writes its own part."""
        return {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        """Write this rank's pieces, and on rank 0 the trainer's state."""
        path = Path(filepath)
        self._saved = None  # whoever had something beside the masters has taken it by now
        engine: Any = self.deepspeed_engine
        if self.is_global_zero:
            assert isinstance(self.lightning_module, nn.Module)
            own = dict(self.lightning_module.named_parameters())
            every = self.lightning_module.named_parameters(remove_duplicate=False)
            name_of = {id(parameter): name for name, parameter in own.items()}
            tied = {name: name_of[id(p)] for name, p in every if name not in own}
            buffers = {
                name: tensor
                for name, tensor in checkpoint["state_dict"].items()
                if name not in own and name not in tied
            }
            state = {k: v for k, v in checkpoint.items() if k != "optimizer_states"} | {
                "state_dict": buffers, TIED: tied,
                GROUPS: {"groups": self._groups(engine), "step": optimizer_step(engine)},
            }  # fmt: skip
            self.checkpoint_io.save_checkpoint(state, path)
        shard = path.parent / shard_name(self.global_rank)
        self.checkpoint_io.save_checkpoint({"pieces": pieces_of(engine, self._beside)}, shard)

    def _groups(self, engine: Any) -> list[dict[str, Any]]:
        plain = (int, float, bool, str, tuple, type(None))
        return [
            {
                "names": names,
                "settings": {
                    key: value
                    for key, value in group.items()
                    if key != "params" and isinstance(value, plain)
                },
            }
            for names, group in zip(
                groups_of(engine), engine.basic_optimizer.param_groups, strict=True
            )
        ]

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Put a checkpoint of any shape into the engine; gives the trainer's state."""
        path = Path(checkpoint_path)
        engine: Any = self.deepspeed_engine
        state = load_mapped(path)
        saved: SavedTensors
        if is_sharded(path):
            saved, step = PiecesOfRanks(path.parent / SHARD_DIRECTORY), state[GROUPS]["step"]
        else:
            one = OneFile(state, groups_of(engine))
            saved, step = one, one.step
        restore(engine, saved, step)
        self._saved = saved
        rates = state["lr_schedulers"][0]["_last_lr"]
        for group, rate in zip(engine.basic_optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        state.pop("optimizer_states", None)
        return state

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        """Done by :meth:`load_checkpoint`."""


def limit_waiting(timeout: timedelta | None) -> None:
    """Give every process group this time: DeepSpeed makes its own with torch's default."""
    from torch.distributed import distributed_c10d as groups

    if timeout is None:
        return
    for group in list(groups._world.pg_map):
        groups._set_pg_timeout(timeout, group)


def shard_name(rank: int) -> str:
    """The file of a rank, within a checkpoint."""
    return f"{SHARD_DIRECTORY}/rank-{rank:05d}.ckpt"


def prepare_for_cpu() -> None:
    """Let DeepSpeed compute on the CPU, without compiling anything.

    It would compile a shared-memory all-reduce at the first use, which takes a compiler and more
    than a minute; gloo does the same work.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
