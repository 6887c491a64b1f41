"""What a recipe says about canvases that it cannot mean."""

from collections.abc import Iterator, Mapping
from typing import Any

from dlm.config.references import Finding, holds
from dlm.config.schema import RecipeConfig, StageConfig
from dlm.generation.settings import OF_CANVAS

_NEEDED = "needs data.canvas_length, without which nothing is trained on a canvas; or remove it"
_HEAD = 3
"""begin, end and at least one token between them, before a canvas."""


def canvas_of(stages: Mapping[str, StageConfig], name: str | None) -> int | None:
    """Tokens of the canvas that a stage's model was trained with, if any; a length stage's model is
    that of the stage it starts from."""
    stage = stages.get(name or "")
    if stage is None:
        return None
    if stage.kind == "length" and stage.init_from != name:
        return canvas_of(stages, stage.init_from)
    return stage.data.canvas_length if stage.kind in ("adapt", "instruct") else None


def ends_itself(stage: StageConfig) -> bool:
    """Whether a stage's model decodes a canvas where no setting says where lengths come from."""
    return stage.kind in ("adapt", "instruct") and stage.data.canvas_length is not None


def canvas_findings(
    stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any]
) -> Iterator[Finding]:
    """Kinds adapt and instruct: settings that a canvas needs, excludes or does not fit."""
    data, generation = stage.data, stage.generation
    if data.canvas_length is None:
        yield from _without_canvas(stage, recipe, own)
        return
    if data.task == "text":
        reason = "ignored setting: plain text has no response to pad; remove it"
        yield Finding(("data.canvas_length", "data.task"), reason, data.canvas_length)
    if data.canvas_length + _HEAD > data.max_length:
        reason = f"leaves no room for a prompt in data.max_length = {data.max_length}; lower it"
        yield Finding(("data.canvas_length", "data.max_length"), reason, data.canvas_length)
    if generation.length in ("predicted", "oracle"):
        yield from _ignored(stage, recipe, own, generation.length)
        return
    length, block = generation.canvas_length or data.canvas_length, generation.block_length
    if block and block >= 1 and length % block:
        reason = f"must divide the canvas of {length} tokens"
        yield Finding(("generation.block_length", "data.canvas_length"), reason, block)
    if generation.min_length > length:
        reason = f"longer than the canvas of {length} tokens; lower it"
        keys = ("generation.min_length", "data.canvas_length")
        yield Finding(keys, reason, generation.min_length)


def _without_canvas(
    stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any]
) -> Iterator[Finding]:
    if stage.generation.length == "canvas":
        yield Finding(("generation.length", "data.canvas_length"), _NEEDED, "canvas")
    else:
        yield from _ignored(stage, recipe, own, stage.generation.length)
    padding, elsewhere = stage.objective.canvas_padding, recipe.objective.canvas_padding
    unread = not any(canvas_of(recipe.stages, name) for name in recipe.stages)
    if padding != "trained" and (unread or padding != elsewhere):
        yield Finding(("objective.canvas_padding", "data.canvas_length"), _NEEDED, padding)


def _ignored(
    stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any], length: str | None
) -> Iterator[Finding]:
    for name in (*OF_CANVAS, "min_length"):
        value = getattr(stage.generation, name)
        inherited = value == getattr(recipe.generation, name)
        if value and holds(own, f"generation.{name}") and not inherited:
            reason = _ignored_with(name, length)
            yield Finding((f"generation.{name}", "generation.length"), reason, value)


def _ignored_with(name: str, length: str | None) -> str:
    if name == "min_length":
        return "ignored setting: without a canvas answers have their references' lengths; remove it"
    lengths = f"generation.length = {length or 'predicted'}"
    return f"ignored setting: with {lengths} there is no canvas to decode; remove it"


def systems_without_canvas(stage: StageConfig, recipe: RecipeConfig) -> Iterator[Finding]:
    """Systems that are to decode a canvas with a model of this recipe that was trained without, or
    that say how and decode none."""
    for name, system in stage.evaluation.systems.items():
        wanted = system.generation.get("length", stage.generation.length)
        model = recipe.stages.get(system.model)
        if model is None or model.kind == "autoregressive":
            continue
        if wanted in ("predicted", "oracle") or (wanted is None and not ends_itself(model)):
            unread = (*OF_CANVAS, "min_length") if wanted == "oracle" else OF_CANVAS
            for key in (key for key in unread if system.generation.get(key)):
                place = f"evaluation.systems.{name}.generation.{key}"
                yield Finding((place,), _ignored_with(key, wanted), system.generation[key])
        elif canvas_of(recipe.stages, system.model) is None:
            reason = (
                "was not trained with a canvas: give that stage data.canvas_length, or set "
                "generation.length: predicted or oracle"
            )
            yield Finding((f"evaluation.systems.{name}.model",), reason, system.model)
