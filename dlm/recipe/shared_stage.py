"""Stages outside training: all ranks share the work, rank 0 writes and speaks."""

from collections.abc import Callable
from typing import Any

import torch

from dlm.distributed.joining import joined
from dlm.distributed.share import Share
from dlm.process import process_rank
from dlm.recipe.ranks import devices_per_node
from dlm.training.device import prepare_torch
from dlm.training.job import StageJob
from dlm.training.quiet import quiet_libraries


def carry_out_shared(
    job: StageJob, work: Callable[[StageJob, Share], dict[str, Any]]
) -> dict[str, Any]:
    """Do the work on every rank that the stage has, and give what its manifest keeps; nothing on
    those that only an earlier stage had."""
    quiet_libraries()
    hardware = job.config.hardware
    devices = devices_per_node(hardware)
    if devices * hardware.num_nodes == 1 and process_rank():
        return {}
    gpus = hardware.accelerator != "cpu" and torch.cuda.is_available()
    with joined(devices, hardware.num_nodes, gpus=gpus) as share:
        prepare_torch(hardware.num_threads)
        return work(job, share)
