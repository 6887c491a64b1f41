"""The processes of a job find each other, or are started, to share work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dlm.distributed.share import ALONE, Share


@contextmanager
def joined(devices: int, num_nodes: int, *, gpus: bool) -> Iterator[Share]:
    """All ranks of a job, each with its share of the work; one process where there is one device.

    Where a launcher has started the ranks they meet; otherwise this process starts ``devices - 1``
    more of its own command, as Lightning does for a training. An error in one of them is raised in
    all, with its rank and host before it.

    Args:
        devices: Ranks on this node.
        num_nodes: Nodes of the job.
        gpus: Whether a stage of this process may train on GPUs: the process group serves it too.
    """
    if devices * num_nodes == 1:
        yield ALONE
        return
    import torch.distributed as dist
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    from dlm.distributed.star import Star

    if not dist.is_initialized():
        strategy = DDPStrategy(process_group_backend="cpu:gloo,cuda:nccl" if gpus else "gloo")
        Fabric(
            accelerator="cpu", devices=devices, num_nodes=num_nodes, strategy=strategy,
            plugins=slurm_environment(),
        ).launch()  # fmt: skip
    host_memory = dist.new_group(backend="gloo")

    def tell(content: Any) -> Any:
        told = [content]
        dist.broadcast_object_list(told, src=0, group=host_memory)
        return told[0]

    star = Star(dist.get_rank(), dist.get_world_size())
    star.connect(os.environ["MASTER_ADDR"], tell, one_host=num_nodes == 1)
    with star:
        yield star


def slurm_environment() -> list[Any]:
    """Slurm's ranks where srun started us, without Lightning's requeueing: ours exits with 75."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    launched = "SLURM_JOB_ID" in os.environ and not TorchElasticEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if launched and SLURMEnvironment.detect() else []


def own_device(*, cpu: bool) -> str:
    """Where this rank computes outside of a training: on a GPU of its own, if there are any."""
    import torch

    gpus = 0 if cpu else torch.cuda.device_count()
    local_rank = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    # A cluster may show each rank its own GPU alone, as number 0.
    return f"cuda:{int(local_rank) % gpus}" if gpus else "cpu"
