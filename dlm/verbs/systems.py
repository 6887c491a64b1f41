"""Systems of an evaluate stage whose model cannot do what their tasks ask of it."""

from collections.abc import Iterator, Sequence

from dlm.config.checks.canvas import ends_itself
from dlm.config.schema import RecipeConfig, StageConfig, SystemConfig
from dlm.evaluation.tasks import Task

_WITHOUT_LENGTHS = ("pretrain", "adapt", "instruct")


def unfit_systems(stage: StageConfig, recipe: RecipeConfig, tasks: Sequence[Task]) -> Iterator[str]:
    """A line per system of the recipe's own stages that would be refused hours later."""
    for name, system in stage.evaluation.systems.items():
        model = recipe.stages.get(system.model)
        only = stage.evaluation.only.get(name)
        # A task file is listed by its path and called by its name.
        listed = zip(stage.evaluation.tasks, tasks, strict=True)
        own = [task for place, task in listed if only is None or {place, task.name} & set(only)]
        generates = any(task.kind == "generation" for task in own)
        key = f"evaluation.systems.{name}.model = {system.model!r}"
        if model is None:
            continue
        if generates and model.kind in _WITHOUT_LENGTHS and _predicts_lengths(system, stage, model):
            yield f"{key}: {_no_predictor(system.model, recipe)}"


def _predicts_lengths(system: SystemConfig, stage: StageConfig, model: StageConfig) -> bool:
    length = system.generation.get("length", stage.generation.length)
    return length == "predicted" or (length is None and not ends_itself(model))


def _no_predictor(model: str, recipe: RecipeConfig) -> str:
    made = [
        name
        for name, config in recipe.stages.items()
        if config.kind == "length" and config.init_from == model
    ]
    named = ", ".join(made) or f"{{kind: length, init_from: {model}}}"
    return (
        f"has no length predictor: evaluate the `length` stage made from it ({named}), or set "
        "generation.length: oracle"
    )
