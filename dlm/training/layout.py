"""Whether a stage's rows share the network's rows."""

import torch

from dlm.errors import UserError
from dlm.models.attention.packed import obstacle
from dlm.training.device import computes_on_cpu
from dlm.training.job import StageJob
from dlm.training.start import StartingPoint

_COMPUTES_IN = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def choose_layout(job: StageJob, start: StartingPoint) -> tuple[bool, list[str]]:
    """Whether rows are packed, and what is to be said of it.

    Raises:
        UserError: ``hardware.strict_speed`` is set and packed rows would not pay.
    """
    config = job.config
    if config.kind == "length":
        return False, []  # it reads prompts alone, not whole rows
    if config.train.layout != "auto":
        return config.train.layout == "packed", []
    backbone = start.backbone
    on_cpu = computes_on_cpu(config.hardware.accelerator)
    device = "cpu" if on_cpu else "cuda" if torch.cuda.is_available() else "mps"
    reason = obstacle(
        backbone.network, torch.device(device), backbone.annealing is not None,
        dtype=_COMPUTES_IN.get(config.train.precision, backbone.network.dtype), trains=True,
    )  # fmt: skip
    if reason is None:
        return True, []
    note = f"rows are padded, not packed: {reason}"
    if config.hardware.strict_speed:
        raise UserError(
            f"hardware.strict_speed: {note}; remove the reason, set it to false, or choose "
            "train.layout=padded"
        )
    return False, [note]
