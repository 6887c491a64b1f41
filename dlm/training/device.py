"""How torch computes in this process."""

import torch


def prepare_torch(num_threads: int | None) -> None:
    """Threads on a CPU; on a GPU float32 matrix products may use TF32 (bf16 stays as it is)."""
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")


def computes_on_cpu(accelerator: str) -> bool:
    """Whether ``hardware.accelerator`` comes to the CPU on this machine."""
    return accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
