"""metrics.csv: one row a value, appended, cut back to the resumed step."""

import csv
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from dlm.files import free_name, make_folder, make_way, replacing

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
        """Append values of this many steps done."""
        now = f"{time.time():.3f}"
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            for name, value in metrics.items():
                if name != "epoch":
                    writer.writerow([step, name, repr(float(value)), now])

    def _cut_back(self, resumed_step: int) -> None:
        rows: list[list[str]] = []
        make_folder(self.path.parent)
        make_way(self.path)
        if resumed_step and self.path.exists():
            rows, lost = _whole_rows(self.path)
            if lost:
                kept = shutil.copyfile(self.path, free_name(self.path))
                print(f"{self.path} is damaged: {lost}, and their values are lost to charts and "
                      f"reports; training goes on. As it was it is kept in {kept}",
                      flush=True)  # fmt: skip
            rows = [row for row in rows if int(row[0]) <= resumed_step]
        # In one rename: a kill or a full disk here must not cost what was measured before.
        with replacing(self.path) as partial, partial.open("w", newline="") as file:
            csv.writer(file).writerows([_HEADER, *rows])


def logged_at(path: Path, step: int) -> dict[str, float]:
    """Metric -> its value after this many steps; none of a file that is not there."""
    rows = _whole_rows(path)[0] if path.is_file() else []
    return {row[1]: float(row[2]) for row in rows if int(row[0]) == step}


def _whole_rows(path: Path) -> tuple[list[list[str]], str]:
    """The rows that can be read, and what is wrong with the others in words.

    A kill may leave half a row at the end: its step is trained again, and nothing is lost.
    """
    lines = path.read_bytes().split(b"\n")
    if lines[0].rstrip(b"\r").decode(errors="replace") != ",".join(_HEADER):
        wrong = ["its header"] if lines[0] else ["its header and what was below it"]
    else:
        wrong, lines = [], lines[1:]
    rows, broken = [], 0
    for line in lines[:-1]:
        row = _row(line)
        if row is not None:
            rows.append(row)
        else:
            broken += 1
    broken -= bool(wrong and broken)  # the header, which has been counted
    wrong += [f"{broken} of its rows"] * bool(broken)
    return rows, f"{' and '.join(wrong)} cannot be read" if wrong else ""


def _row(line: bytes) -> list[str] | None:
    try:
        row = next(csv.reader([line.decode().rstrip("\r")]), [])
        float(row[2])
    except (ValueError, IndexError, csv.Error):
        return None
    return row if len(row) == len(_HEADER) and row[0].isdecimal() else None
