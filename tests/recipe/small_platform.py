"""A small fake platform: stages that write real files, without torch."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dlm.config.schema import (
    DataConfig,
    HardwareConfig,
    RecipeConfig,
    SourceConfig,
    StageConfig,
    TrainConfig,
)
from dlm.recipe.runner import run_recipe
from dlm.training.job import StageJob

DATA = DataConfig(train=[SourceConfig(generator="numbers", count=10)])
COMMAND = ["dlm", "run", "small.yaml"]


def small_recipe(*, steps: int = 4, workers: int = 0, adapt_steps: int = 4) -> RecipeConfig:
    """pretrain -> adapt -> twin; adapt starts from pretrain, twin from nothing."""
    common: dict[str, Any] = {"data": DATA, "hardware": HardwareConfig(num_workers=workers)}
    train = TrainConfig(steps=steps)
    return RecipeConfig(
        name="small",
        stages={
            "pretrain": StageConfig(kind="pretrain", tokenizer="org/tokens", train=train, **common),
            "adapt": StageConfig(
                kind="adapt", init_from="pretrain", train=TrainConfig(steps=adapt_steps), **common
            ),
            "twin": StageConfig(
                kind="autoregressive", tokenizer="org/tokens", train=train, **common
            ),
        },
    )


def rows_identity(stage: StageConfig) -> object:
    return {"train": [source.generator for source in stage.data.train]}


@dataclass
class FakeKinds:
    """Carries out stages; ``interrupt`` maps a stage to what happens in the middle of it."""

    calls: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    interrupt: dict[str, Callable[[StageJob], None]] = field(default_factory=dict)

    def __call__(self, job: StageJob) -> Mapping[str, Any]:
        self.calls.append(job.name)
        if (job.directory / "checkpoints" / "step=2").is_dir():
            self.resumed.append(job.name)
        for export in job.exports.values():
            assert (export / "model.txt").is_file()
        write_checkpoint(job.directory)
        if job.name in self.interrupt:
            self.interrupt[job.name](job)
        export = job.directory / "export"
        export.mkdir(exist_ok=True)
        (export / "model.txt").write_text(f"{job.name} {job.fingerprint}")
        return {"loss": 0.5, "bleu": 31.25}


def write_checkpoint(directory: Path) -> None:
    (directory / "checkpoints" / "step=2").mkdir(parents=True, exist_ok=True)
    progress = directory / "checkpoints" / "progress.json"
    progress.write_text(json.dumps({"step": 2, "steps": 4}))


def raising(error: BaseException) -> Callable[[StageJob], None]:
    def interrupt(job: StageJob) -> None:
        raise error

    return interrupt


@dataclass
class Workplace:
    """A run directory and the fake kinds that work in it."""

    run_dir: Path
    kinds: FakeKinds = field(default_factory=FakeKinds)
    recipe: RecipeConfig = field(default_factory=small_recipe)

    def run(self, recipe: RecipeConfig | None = None, **options: Any) -> int:
        options.setdefault("command", COMMAND)
        options.setdefault("data_identity", rows_identity)
        self.kinds.calls.clear()
        self.kinds.resumed.clear()
        return run_recipe(recipe or self.recipe, self.run_dir, execute=self.kinds, **options)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every file below the run directory: time of change and contents."""
        paths = sorted(path for path in self.run_dir.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    def directory(self, stage: str) -> Path:
        return next(self.run_dir.glob(f"*_{stage}"))


def without_stage(recipe: RecipeConfig, name: str) -> RecipeConfig:
    return replace(recipe, stages={k: v for k, v in recipe.stages.items() if k != name})
