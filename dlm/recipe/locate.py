"""From what a person names (a run, a stage's directory, a model directory) to a model."""

from dataclasses import dataclass
from pathlib import Path

from dlm.config.loading import load_recipe
from dlm.config.schema import RecipeConfig, StageConfig
from dlm.errors import UserError
from dlm.recipe.manifest import read_manifest
from dlm.recipe.plan import stage_directory

_GENERATING = ("adapt", "instruct", "autoregressive", "length")


@dataclass(frozen=True)
class LocatedModel:
    """A model directory, and the stage that it came from if it is ours."""

    place: str
    """A directory, or a hub name."""
    stage: StageConfig | None = None
    name: str = ""


def locate_model(place: str) -> LocatedModel:
    """A run directory, a stage directory, any Hugging Face directory or a hub name.

    Raises:
        UserError: A run has no finished stage that generates; a directory is none of these.
    """
    path = Path(place)
    if (path / "recipe.yaml").exists():
        return _of_run(path)
    if (path / "export").is_dir():
        return LocatedModel(str(path / "export"), _stage_config(path), path.name)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UserError(
                f"{place} is no run (no recipe.yaml), no stage (no export/) and no model "
                "directory (no config.json)"
            )
        return LocatedModel(place, None, path.name)
    if place.count("/") > 1 or place.startswith((".", "/", "runs/")):
        raise UserError(f"there is no directory {place}: give a run, a stage or a model directory")
    return LocatedModel(place, None, place)


def _of_run(run_dir: Path) -> LocatedModel:
    recipe = load_recipe(str(run_dir / "recipe.yaml"))
    finished = _finished(recipe, run_dir)
    name = recipe.serve or next(
        (n for n in reversed(finished) if recipe.stages[n].kind in _GENERATING), None
    )
    if name is None or name not in finished:
        wanted = f"stage {name}" if name else "no stage that generates"
        state = "is not finished" if name else "is finished"
        raise UserError(f"{run_dir}: {wanted} {state} yet: dlm status {run_dir} says how far it is")
    directory = stage_directory(run_dir, list(recipe.stages).index(name) + 1, name)
    return LocatedModel(str(directory / "export"), recipe.stages[name], name)


def _finished(recipe: RecipeConfig, run_dir: Path) -> list[str]:
    return [
        name
        for number, name in enumerate(recipe.stages, start=1)
        if read_manifest(stage_directory(run_dir, number, name)) is not None
    ]


def _stage_config(directory: Path) -> StageConfig | None:
    run_dir = directory.parent
    if not (run_dir / "recipe.yaml").exists():
        return None
    recipe = load_recipe(str(run_dir / "recipe.yaml"))
    return recipe.stages.get(directory.name.partition("_")[2])
