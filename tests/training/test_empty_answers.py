"""Empty answers of a validation: on the console and in the manifest where there are any."""

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from dlm.callbacks.metrics_log import MetricsLog, logged_at
from dlm.callbacks.progress import StageProgress
from dlm.training.train import empty_figures, metrics_file


def logged(folder: Path, share: float) -> Any:
    """A stage whose third step was validated."""
    job: Any = SimpleNamespace(directory=folder)
    figures = {"validation/empty_answers": share, "validation/length_ratio": 0.25}
    MetricsLog(metrics_file(job), resumed_step=0).log_step(figures, 3)
    return job


def test_the_manifest_has_the_exported_steps_empty_answers(tmp_path: Path) -> None:
    job = logged(tmp_path, 0.62)
    assert empty_figures(job, 3) == {
        "validation_empty_answers": 0.62, "validation_length_ratio": 0.25
    }  # fmt: skip
    assert empty_figures(job, 4) == {}
    assert empty_figures(logged(tmp_path / "other", 0.0), 3) == {}
    assert logged_at(tmp_path / "nothing.csv", 3) == {}


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.5, "exact_match 0 · empty_answers 0.5 · length_ratio 0.25"), (0.0, "exact_match 0\n")],
)
def test_the_console_says_them_only_where_there_are_any(
    tmp_path: Path, share: float, said: str
) -> None:
    meter: Any = None
    progress = StageProgress("adapt", steps=3, every_n_steps=1, file=tmp_path / "p", meter=meter)
    progress.console = Console(file=StringIO(), soft_wrap=True)
    figures = {"exact_match": 0.0, "empty_answers": share, "length_ratio": 0.25}
    trainer: Any = SimpleNamespace(
        is_global_zero=True, sanity_checking=False, global_step=3,
        callback_metrics={f"validation/{k}": torch.tensor(v) for k, v in figures.items()},
    )  # fmt: skip
    stage: Any = None
    progress.on_validation_end(trainer, stage)
    assert progress.console.file.getvalue() == f"adapt 3/3 · validation: {said.rstrip()}\n"  # type: ignore[attr-defined]
