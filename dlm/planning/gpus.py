"""Speed and memory of GPUs by name."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dlm.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU."""

    name: str
    memory_gib: float
    """As the driver shows it."""
    half: float
    """Dense peak in bf16 or fp16, TFLOP/s."""
    single: float
    """Peak in float32, TFLOP/s."""
    drivers: tuple[str, ...]
    """Its names by the driver."""

    def peak_tflops(self, precision: str) -> float:
        """Peak for one of Lightning's precisions."""
        return self.single if precision == "32-true" else self.half


@cache
def gpus() -> dict[str, Gpu]:
    """All that are known."""
    text = (Path(__file__).parent / "gpus.yaml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return {
        name: Gpu(name, **row | {"drivers": tuple(row["drivers"])}) for name, row in rows.items()
    }


def gpu_named(name: str) -> Gpu:
    """A GPU by name.

    Raises:
        UserError: It is not known; the message lists those that are.
    """
    known = gpus()
    if name.lower() not in known:
        raise UserError(
            f"--gpu {name}: not known{did_you_mean(name.lower(), known)} (known: "
            f"{', '.join(known)}); give --tflops and --gpu-memory instead"
        )
    return known[name.lower()]


def gpu_of_driver(name: str) -> Gpu | None:
    """A GPU by its driver's name; None: not known."""
    return next((gpu for gpu in gpus().values() if name in gpu.drivers), None)
