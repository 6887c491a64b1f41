"""Strategies that a stage cannot use."""

from collections.abc import Iterator

from dlm.config.references import Finding
from dlm.config.schema import StageConfig

ZERO = ("zero1", "zero2", "zero3")


def strategy_findings(stage: StageConfig) -> Iterator[Finding]:
    """What is wrong with the distributed strategy of a training stage."""
    hardware = stage.hardware
    if hardware.strategy == "fsdp":
        reason = (
            "Lightning 2.6 calls its FSDP2 strategy experimental, and its checkpoints are none "
            "that another strategy or number of devices continues here: use zero3, which cuts "
            "the same"
        )
        yield Finding(("hardware.strategy",), reason, "fsdp")
    keys = ("hardware.offload", "hardware.strategy")
    if hardware.offload != "none" and hardware.strategy not in ZERO:
        reason = f"ignored setting: strategy {hardware.strategy} does not offload; use zero1 to 3"
        yield Finding(keys, reason, hardware.offload)
    elif hardware.offload == "parameters" and hardware.strategy != "zero3":
        reason = f"{hardware.strategy} does not cut the parameters: use zero3, or offload optimizer"
        yield Finding(keys, reason, hardware.offload)
    if hardware.compile and hardware.strategy == "zero3":
        reason = "the weights that zero3 gathers on the way cannot be compiled; use zero2"
        yield Finding(("hardware.compile", "hardware.strategy"), reason, True)
