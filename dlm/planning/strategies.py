"""How a network may be spread over GPUs, from cheap to dear, and the first that fits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dlm.planning.precision import Strategy

Offload = Literal["none", "optimizer", "parameters"]

ORDER = (
    "single/ddp, zero1, zero2, zero3; then the same with activation checkpointing; then offload of "
    "the optimizer (zero2, zero3) and of the parameters (zero3) to the CPU"
)
REASON = (
    "each costs more time than the one before: zero1 and zero2 send as much as ddp, zero3 half as "
    "much again; checkpointing computes a third more; offload waits for the bus and the CPU"
)


@dataclass(frozen=True)
class Placement:
    """One way to use the GPUs."""

    strategy: Strategy
    offload: Offload = "none"
    checkpointing: bool = False

    @property
    def name(self) -> str:
        """In words."""
        parts: list[str] = [self.strategy]
        parts += ["activation checkpointing"] * self.checkpointing
        parts += [f"offload of {self.offload}"] * (self.offload != "none")
        return " + ".join(parts)

    @property
    def settings(self) -> dict[str, str]:
        """As settings of a stage, by key."""
        strategy = "auto" if self.strategy == "single" else self.strategy
        found: dict[str, str] = {"hardware.strategy": strategy}
        if self.offload != "none":
            found["hardware.offload"] = self.offload
        if self.checkpointing:
            found["hardware.activation_checkpointing"] = "true"
        return found


def placements(gpus: int, *, frozen: bool = False, offload: bool = True) -> Iterator[Placement]:
    """All of them, in ``ORDER``; on one GPU ZeRO shares nothing out, and is there to offload.
    ``frozen``: the network keeps no activations that checkpointing could save; ``offload``: there
    is another memory to offload to."""
    plain: list[Strategy] = ["single"] if gpus == 1 else ["ddp", "zero1", "zero2", "zero3"]
    for checkpointing in (False,) if frozen else (False, True):
        for strategy in plain:
            yield Placement(strategy, checkpointing=checkpointing)
    offloading: list[tuple[Strategy, Offload]] = [
        ("zero2", "optimizer"), ("zero3", "optimizer"), ("zero3", "parameters"),
    ]  # fmt: skip
    for strategy, what in offloading if offload else ():
        yield Placement(strategy, what, checkpointing=not frozen)
