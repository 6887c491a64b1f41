"""metrics.csv: one row a value, appended, cut back to the resumed step."""

import csv
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

_HEADER = ["step", "metric", "value", "unix_time"]


class MetricsLog(Logger):
    """Long-format CSV that survives a resume: rows after the resumed step are dropped.

    A row's step is the number of steps done, as in the names of checkpoints and samples.
    """

    def __init__(self, path: Path, *, resumed_step: int) -> None:
        super().__init__()
        self.path = path
        rank_zero_only(self._cut_back)(resumed_step)

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The resolved recipe is kept by the runner."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        # Lightning numbers the steps from 0.
        self.log_step(metrics, (step or 0) + 1)

    @rank_zero_only
    def log_step(self, metrics: Mapping[str, float], step: int) -> None:
        """Append values of so many steps done."""
        now = f"{time.time():.3f}"
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            for name, value in metrics.items():
                if name != "epoch":
                    writer.writerow([step, name, repr(float(value)), now])

    def _cut_back(self, resumed_step: int) -> None:
        rows: list[list[str]] = []
        if resumed_step and self.path.exists():
            with self.path.open(newline="") as file:
                complete = [row for row in list(csv.reader(file))[1:] if len(row) == len(_HEADER)]
            rows = [row for row in complete if int(row[0]) <= resumed_step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # In one rename: a kill or a full disk here must not cost what was measured before.
        partial = self.path.with_name(f".{self.path.name}.tmp")
        with partial.open("w", newline="") as file:
            csv.writer(file).writerows([_HEADER, *rows])
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
