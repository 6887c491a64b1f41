"""How torch computes in this process."""

import torch

from dlm.config.schema import StageConfig
from dlm.errors import UserError
from dlm.planning.gpus import gpu_of_driver


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


def peak_tflops(config: StageConfig) -> float | None:
    """One device's peak in the stage's precision, TFLOP/s; None: a CPU, or a GPU not in
    dlm/planning/gpus.yaml."""
    if computes_on_cpu(config.hardware.accelerator) or not torch.cuda.is_available():
        return None
    gpu = gpu_of_driver(torch.cuda.get_device_name())
    if gpu is None:
        return None
    tensor_float = (
        config.train.precision == "32-true"
        and torch.cuda.get_device_capability() >= (8, 0)
        and torch.get_float32_matmul_precision() != "highest"
    )
    # TF32, which float32 products then use, has half the speed of half precision.
    return gpu.half / 2 if tensor_float else gpu.peak_tflops(config.train.precision)


def peak_notes(config: StageConfig) -> list[str]:
    """Why there will be no MFU, on a GPU without one."""
    if computes_on_cpu(config.hardware.accelerator) or peak_tflops(config) is not None:
        return []
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "this device"
    return [f"no MFU is given: the peak of {name} is not among those of dlm/planning/gpus.yaml"]
