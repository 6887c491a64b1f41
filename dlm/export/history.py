"""How a model came about, read from its run: every stage that it stands on, and its scores."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlm.config.loading import load_recipe
from dlm.config.schema import RecipeConfig
from dlm.evaluation.results import Result
from dlm.export.origin import RowsOrigin, rows_of
from dlm.recipe.fingerprint import LOCAL_FILES
from dlm.recipe.manifest import EXPORT, DamagedManifest, Manifest, read_manifest, verify_exports

_MODEL_KEYS = ("init_from", "model.pretrained")


@dataclass(frozen=True)
class PastStage:
    """One finished stage of the chain."""

    manifest: Manifest
    rows: list[RowsOrigin]
    """Where its training rows came from."""

    @property
    def name(self) -> str:
        return self.manifest.stage

    @property
    def start(self) -> str:
        """What its weights started from: an earlier stage, a hub name, a directory's name; empty
        if they were random."""
        return self._outside("init_from") or self._outside("model.pretrained")

    @property
    def hub_model(self) -> str | None:
        """The hub model that it started from."""
        config, needs = self.manifest.identity.config, self.manifest.identity.needs
        start = config.get("init_from") or _pretrained(config)
        key = "init_from" if config.get("init_from") else "model.pretrained"
        outside = start and start not in needs and key not in self._directories
        return f"{start}" if outside else None

    @property
    def _directories(self) -> Mapping[str, Any]:
        data = self.manifest.identity.data
        found: Any = data.get(LOCAL_FILES, {}) if isinstance(data, Mapping) else {}
        return found if isinstance(found, Mapping) else {}

    def _outside(self, key: str) -> str:
        config = self.manifest.identity.config
        value = config.get("init_from") if key == "init_from" else _pretrained(config)
        # Where a directory lies is nobody's business.
        return Path(str(value)).name if value and key in self._directories else str(value or "")


@dataclass(frozen=True)
class History:
    """All that a run says about one of its models."""

    recipe: RecipeConfig | None = None
    """None: the model is of no run that lies here."""
    stages: list[PastStage] = field(default_factory=list)
    """The chain, the exported stage last."""
    results: list[Result] = field(default_factory=list)
    """Its scores in the run's finished evaluate stages, without samples."""
    remarks: list[str] = field(default_factory=list)
    """What does not fit together, in words."""

    @property
    def hub_models(self) -> list[str]:
        """Hub models that the weights started from, not those that wrote rows for them."""
        made = {stage.name: stage for stage in self.stages}
        found: list[str] = []
        stage = self.stages[-1] if self.stages else None
        while stage is not None:
            found += [stage.hub_model] if stage.hub_model else []
            stage = made.get(stage.manifest.identity.config.get("init_from") or "")
        return found


def read_history(export: Path) -> History:
    """The history of a stage's ``export/``; an empty one for a directory of no run.

    Raises:
        UserError: The run's recipe cannot be read.
    """
    stage_directory = export.resolve().parent
    run_dir = stage_directory.parent
    manifest = read_manifest(stage_directory) if export.name == EXPORT else None
    if manifest is None or not (run_dir / "recipe.yaml").exists():
        return History()
    recipe = load_recipe(run_dir / "recipe.yaml")
    remarks: list[str] = []
    finished = _finished(run_dir, remarks)
    chain = _chain(manifest, finished, remarks)
    manifests = {name: past for name, (_, past) in finished.items()}
    stages = [
        PastStage(past, rows_of(past, recipe.stages.get(past.stage), manifests)) for past in chain
    ]
    return History(recipe, stages, _results(manifest, run_dir, finished, remarks), remarks)


def _finished(run_dir: Path, remarks: list[str]) -> dict[str, tuple[Path, Manifest]]:
    """Stage -> its directory and manifest."""
    found = {}
    for directory in sorted(run_dir.iterdir()):
        named = re.fullmatch(r"\d+_(.+)", directory.name)
        if not named:
            continue
        try:
            manifest = read_manifest(directory)
        except DamagedManifest:
            remarks.append(f"what stage {named[1]} did is left out: its manifest is damaged")
            continue
        if manifest is not None:
            found[named[1]] = (directory, manifest)
    return found


def _chain(
    last: Manifest, finished: Mapping[str, tuple[Path, Manifest]], remarks: list[str]
) -> list[Manifest]:
    """Everything that ``last`` needs, in the order it was made."""
    chain: dict[str, Manifest] = {}

    def add(manifest: Manifest) -> None:
        for name, fingerprint in manifest.identity.needs.items():
            if name not in finished:
                remarks.append(f"stage {name}, which {manifest.stage} started from, is gone")
            elif finished[name][1].identity.fingerprint != fingerprint:
                remarks.append(
                    f"stage {name} was made anew after {manifest.stage} had started from it, and "
                    "is left out here"
                )
            elif name not in chain:
                add(finished[name][1])
        chain[manifest.stage] = manifest

    add(last)
    return list(chain.values())


def _results(
    model: Manifest, run_dir: Path, finished: Mapping[str, tuple[Path, Manifest]],
    remarks: list[str],
) -> list[Result]:  # fmt: skip
    results = []
    for directory, manifest in finished.values():
        scored = manifest.identity.needs.get(model.stage)
        if manifest.identity.kind != "evaluate" or scored is None:
            continue
        if scored != model.identity.fingerprint:
            remarks.append(
                f"the scores of stage {manifest.stage} are left out: {model.stage} was made anew "
                "after them"
            )
            continue
        if problems := verify_exports(directory, manifest):
            remarks.append(f"the scores of stage {manifest.stage} are left out: {problems[0]}")
            continue
        for path in sorted((directory / EXPORT).rglob("metrics.json")):
            metrics = json.loads(path.read_text(encoding="utf-8"))
            if metrics["model"] == model.stage:
                place = path.relative_to(run_dir).as_posix()
                results.append(
                    Result(metrics["system"], metrics["task"], metrics | {"file": place}, [])
                )
    return results


def _pretrained(config: Mapping[str, Any]) -> str | None:
    """Read only where a stage continues from nothing."""
    model = config.get("model") or {}
    return None if config.get("init_from") else model.get("pretrained")
