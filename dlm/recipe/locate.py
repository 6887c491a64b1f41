"""From what a person names (a run, a stage's directory, a model directory) to a model."""

from dataclasses import dataclass, replace
from pathlib import Path

from dlm.config.loading import load_recipe
from dlm.config.schema import WITHOUT_MODEL, RecipeConfig, StageConfig
from dlm.errors import UserError
from dlm.places import expanded, means_a_path
from dlm.recipe.manifest import EXPORT, DamagedManifest, read_manifest
from dlm.recipe.plan import stage_directory
from dlm.recipe.state import STARTED
from dlm.recipe.sweep import read_sweep

_GENERATING = ("adapt", "instruct", "autoregressive", "length")


@dataclass(frozen=True)
class LocatedModel:
    """A model directory, and the stage that it came from if it is ours."""

    place: str
    """A directory, or a hub name."""
    stage: StageConfig | None = None
    name: str = ""
    given: str = ""
    """What a person named, for messages."""

    @property
    def trusted(self) -> bool:
        """Whether its recipe asks for code that comes with a model to be run."""
        return self.stage is not None and self.stage.model.trust_remote_code


def locate_model(place: str) -> LocatedModel:
    """The model that a person names: a run, a stage, any model directory or a hub name.

    Raises:
        UserError: A run has no finished stage that generates, a stage is not finished or makes no
            model, a directory is none of these.
    """
    return replace(_located(place), given=place)


def _located(place: str) -> LocatedModel:
    path = expanded(place)
    if (path / "recipe.yaml").is_file():
        return _of_run(path)
    if (sweep := read_sweep(path)) is not None:
        places = ", ".join(map(str, sweep.directories(path))) or "none has begun yet"
        raise UserError(f"{place} holds the runs of a sweep: name one of them ({places})")
    if (path / STARTED).exists() or (path / EXPORT).is_dir():
        return _of_stage(path)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UserError(
                f"{place} is no run (no recipe.yaml), no stage (no {EXPORT}/) and no model "
                "directory (no config.json): give one of these; if it was a run, `dlm run` its "
                "recipe there, which writes recipe.yaml anew"
            )
        return LocatedModel(str(path), None, path.resolve().name)
    if path.exists():
        raise UserError(f"{place} is a file: give a run, a stage or a model directory")
    if means_a_path(place) or place.startswith("runs/"):
        raise UserError(f"there is no directory {path}: give a run, a stage or a model directory")
    return LocatedModel(place, None, place)


def _of_run(run_dir: Path) -> LocatedModel:
    recipe = load_recipe(str(run_dir / "recipe.yaml"))
    finished = _finished(recipe, run_dir)
    name = recipe.serve or next(
        (n for n in reversed(finished) if recipe.stages[n].kind in _GENERATING), None
    )
    if name is None or name not in finished:
        problem = (
            f"stage {name} is not finished yet" if name else "no stage that generates is finished"
        )
        usable = [n for n in finished if recipe.stages[n].kind in _GENERATING]
        places = ", ".join(str(_directory(recipe, run_dir, n)) for n in usable)
        other = f", or name a finished stage: {places}" if usable else ""
        raise UserError(
            f"{run_dir}: {problem}. `dlm status {run_dir}` says how far it is; `dlm run` it to the "
            f"end{other}"
        )
    directory = _directory(recipe, run_dir, name)
    read_manifest(directory)
    return LocatedModel(str(directory / EXPORT), recipe.stages[name], name)


def _of_stage(directory: Path) -> LocatedModel:
    stage = _stage_config(directory)
    manifest = read_manifest(directory)
    if stage is not None and manifest is None:
        raise UserError(
            f"{directory} is not finished: `dlm status {directory.parent}` says how far it is; "
            "`dlm run` it to the end"
        )
    kind = manifest.identity.kind if manifest else stage.kind if stage else None
    if kind in WITHOUT_MODEL:
        raise UserError(
            f"{directory} is a stage of kind {kind}, which makes no model: name another"
        )
    if not (directory / EXPORT).is_dir():
        raise UserError(f"{directory} has no {EXPORT}/: `dlm run` its recipe to the end")
    return LocatedModel(str(directory / EXPORT), stage, directory.resolve().name)


def _directory(recipe: RecipeConfig, run_dir: Path, name: str) -> Path:
    return stage_directory(run_dir, list(recipe.stages).index(name) + 1, name)


def _finished(recipe: RecipeConfig, run_dir: Path) -> list[str]:
    """Stages with a manifest, damaged ones too: what is opened is not to change with damage."""
    found = []
    for name in recipe.stages:
        try:
            if read_manifest(_directory(recipe, run_dir, name)) is not None:
                found.append(name)
        except DamagedManifest:
            found.append(name)
    return found


def _stage_config(directory: Path) -> StageConfig | None:
    directory = directory.resolve()
    run_dir = directory.parent
    if not (run_dir / "recipe.yaml").exists():
        return None
    recipe = load_recipe(str(run_dir / "recipe.yaml"))
    return recipe.stages.get(directory.name.partition("_")[2])
