"""How fast the devices of a stage could compute at best."""

import torch

from dlm.config.schema import StageConfig
from dlm.planning.gpus import gpu_of_driver
from dlm.training.device import computes_on_cpu


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
