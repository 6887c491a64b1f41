"""How torch computes in this process."""

import torch

from dlm.errors import UserError


def prepare_torch(num_threads: int | None) -> None:
    """Threads on a CPU; on a GPU float32 matrix products may use TF32 (bf16 stays as it is)."""
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")


def computes_on_cpu(accelerator: str) -> bool:
    """Whether ``hardware.accelerator`` comes to the CPU on this machine."""
    return accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())


def check_precision(precision: str, accelerator: str) -> None:
    """Refuse float16 where Lightning would warn and take bfloat16.

    Raises:
        UserError: There is no GPU.
    """
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if precision == "16-mixed" and (accelerator == "cpu" or not gpu):
        raise UserError(
            "train.precision=16-mixed needs a GPU, and there is none here: use bf16-mixed or "
            "32-true"
        )


def check_devices(accelerator: str, devices: int | None) -> None:
    """Refuse GPUs that are not there.

    Raises:
        UserError: There are fewer than asked for.
    """
    there = torch.cuda.device_count()
    wanted = devices or 1
    if accelerator == "gpu" and there < wanted:
        remedy = f"set hardware.devices={there}" if there else "set hardware.accelerator=cpu"
        raise UserError(
            f"hardware.accelerator=gpu with hardware.devices={wanted}: this machine has "
            f"{there} that torch can use. Start it where they are, or {remedy}"
        )
