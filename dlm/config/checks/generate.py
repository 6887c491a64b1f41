"""Kind generate: the model that writes, and what it cannot be asked."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from dlm.config.checks.canvas import canvas_of, ends_itself
from dlm.config.references import Finding, holds, sources_read
from dlm.config.schema import RecipeConfig, StageConfig
from dlm.generation.settings import AUTOREGRESSIVE_ONLY, OF_BOTH_KINDS, GenerationSettings

_WITHOUT_LENGTHS = ("pretrain", "adapt", "instruct")


def generate_findings(
    stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any]
) -> Iterator[Finding]:
    """What a stage that writes rows lacks, or cannot mean."""
    if stage.init_from is None:
        reason = "missing: the model that writes, an earlier stage, a directory or a hub name"
        yield Finding(("init_from",), reason)
    if stage.tokenizer is not None:
        reason = (
            "the model of init_from has its own tokenizer, and what is handed on are texts, which "
            "a stage with any other tokenizer reads; remove it"
        )
        yield Finding(("tokenizer",), reason, stage.tokenizer)
    yield from _prompts(stage)
    model = recipe.stages.get(stage.init_from or "")
    if model is not None:
        yield from _settings_of_another_kind(stage, recipe, own, model)
        yield from _lengths(stage, recipe, model)


def _prompts(stage: StageConfig) -> Iterator[Finding]:
    reason = "a text has no prompt to answer; name a task that has one (`dlm ls data`), and the "
    reason += "field that is asked with `fields`, such as {src: text} for translation"
    if stage.data.task == "text":
        yield Finding(("data.task",), reason, "text")
    for index, source in enumerate(sources_read(stage)["train"]):
        if source.task == "text":
            yield Finding((f"data.train[{index}].task",), reason, "text")
    if stage.data.too_long == "truncate_prompt":
        reason = "kind generate does not cut prompts, which are handed on; set error or drop"
        yield Finding(("data.too_long",), reason, "truncate_prompt")


def _settings_of_another_kind(
    stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any], model: StageConfig
) -> Iterator[Finding]:
    twin = model.kind == "autoregressive"
    for name in (item.name for item in fields(GenerationSettings)):
        value = getattr(stage.generation, name)
        given = holds(own, f"generation.{name}") and value != getattr(recipe.generation, name)
        if given and name not in OF_BOTH_KINDS and (name in AUTOREGRESSIVE_ONLY) != twin:
            reason = f"ignored setting: {stage.init_from} is of kind {model.kind}; remove it"
            yield Finding((f"generation.{name}", "init_from"), reason, value)


def _lengths(stage: StageConfig, recipe: RecipeConfig, model: StageConfig) -> Iterator[Finding]:
    """Whether something says how long an answer is."""
    length, name = stage.generation.length, stage.init_from
    if model.kind == "autoregressive":
        return
    if length == "canvas" and canvas_of(recipe.stages, name) is None:
        reason = "was not trained with a canvas; give that stage data.canvas_length, or set "
        reason += "generation.length: predicted or oracle"
        yield Finding(("init_from", "generation.length"), reason, name)
    predicts = length == "predicted" or (length is None and not ends_itself(model))
    if model.kind in _WITHOUT_LENGTHS and predicts:
        made = [
            other
            for other, config in recipe.stages.items()
            if config.kind == "length" and config.init_from == name
        ]
        named = ", ".join(made) or f"{{kind: length, init_from: {name}}}"
        reason = f"has no length predictor; name the `length` stage made from it ({named}), or "
        reason += "set generation.length: oracle where rows have responses"
        yield Finding(("init_from", "generation.length"), reason, name)
