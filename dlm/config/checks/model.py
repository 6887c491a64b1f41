"""What a stage takes over from the stages before it, and what it cannot change or lacks then."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from dlm.config.checks.data import tasks_of
from dlm.config.references import Finding, holds
from dlm.config.schema import (
    ModelConfig,
    ObjectiveConfig,
    RecipeConfig,
    StageConfig,
    VocabularyConfig,
)

SIZES = ("architecture", "hidden_size", "num_layers", "num_heads", "intermediate_size",
         "max_positions", "initializer_range")  # fmt: skip
"""Settings of a model from scratch."""
_RESPONSE_SETTINGS = ("response_positions", "response_start", "response_token_type")


def sizes_of_a_finished_model(
    stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any]
) -> Iterator[Finding]:
    """Sizes beside ``init_from`` or ``model.pretrained``: the weights have theirs."""
    known = {item.name for item in fields(ModelConfig)}
    source = stage.init_from or stage.model.pretrained
    beside = "init_from" if stage.init_from is not None else "model.pretrained"
    for name in (name for name in SIZES if name in known and source is not None):
        key, value = f"model.{name}", getattr(stage.model, name)
        if holds(own, key) and value != getattr(recipe.model, name):
            reason = f"ignored setting: {source} ({beside}) has its own; remove it"
            yield Finding((key, beside), reason, value)


def fresh_head_findings(
    stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any]
) -> Iterator[Finding]:
    """An output layer that is begun anew: of a checkpoint, which ``model.pretrained`` names."""
    key = "model.fresh_head"
    if not stage.model.fresh_head:
        return
    if stage.init_from is not None:
        if holds(own, key) and not recipe.model.fresh_head:
            reason = (
                "ignored setting: it belongs to model.pretrained; name the checkpoint there in "
                "place of init_from, or remove it"
            )
            yield Finding((key, "init_from"), reason, True)
    elif stage.model.pretrained is None:
        reason = "ignored setting: all of a model from scratch is fresh; remove it"
        yield Finding((key, "model.pretrained"), reason, True)
    elif stage.lora.rank and not stage.lora.train_also:
        reason = (
            "lora would freeze the random output layer: train every weight in a stage before this "
            "one, or name the layer in lora.train_also (cls in BERT, lm_head in RoBERTa)"
        )
        yield Finding((key, "lora.rank"), reason, True)


def vocabulary_findings(stage: StageConfig) -> Iterator[Finding]:
    """A vocabulary that is cut: of what, and by what."""
    vocabulary, default = stage.model.vocabulary, VocabularyConfig()
    if vocabulary.keep == "full":
        for name in ("characters", "extra"):
            value = getattr(vocabulary, name)
            if value != getattr(default, name):
                reason = "ignored setting: model.vocabulary.keep is full; set used, or remove this"
                yield Finding((f"model.vocabulary.{name}", "model.vocabulary.keep"), reason, value)
    elif stage.init_from is None and stage.model.pretrained is None:
        reason = "a model from scratch has no tokens to cut: train a smaller tokenizer; remove it"
        yield Finding(("model.vocabulary.keep", "init_from"), reason, vocabulary.keep)
    elif stage.lora.rank and stage.lora.keep_adapter:
        reason = (
            "with model.vocabulary.keep=used the adapter would belong to a cut model that is "
            "nowhere on disk; set one of them to its default"
        )
        yield Finding(("lora.keep_adapter", "model.vocabulary.keep"), reason, True)


def response_findings(
    stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any]
) -> Iterator[Finding]:
    """Where responses stand: a start that means something, and what an earlier stage has."""
    if tasks_of(stage) == {"text"}:
        # The recipe's own section may say it for the stages behind this one.
        for name in _RESPONSE_SETTINGS:
            value = getattr(stage.model, name)
            if holds(own, f"model.{name}") and value != getattr(recipe.model, name):
                reason = "ignored setting: texts have no responses; set it for the first stage on "
                yield Finding((f"model.{name}", "data.task"), f"{reason}pairs", value)
        return
    model = stage.model
    start, key = model.response_start, "model.response_start"
    if start is not None and model.response_positions != "fixed":
        reason = "ignored setting: it needs model.response_positions=fixed; set that, or remove it"
        yield Finding((key, "model.response_positions"), reason, start)
    elif start is not None and start >= model.max_positions and _from_scratch(stage):
        reason = f"beyond model.max_positions = {model.max_positions}; lower it or raise that"
        yield Finding((key, "model.max_positions"), reason, start)
    source = recipe.stages.get(stage.init_from or "")
    if source is None or (source.kind == "pretrain" and tasks_of(source) == {"text"}):
        return
    for name in _RESPONSE_SETTINGS:
        value, has = getattr(model, name), getattr(source.model, name)
        if value is not None and has is not None and value != has:
            reason = (
                f"{stage.init_from} (init_from) is trained with {has}, and a model keeps it; "
                f"remove it, or set it for {stage.init_from}"
            )
            yield Finding((f"model.{name}", "init_from"), reason, value)


def _from_scratch(stage: StageConfig) -> bool:
    return stage.init_from is None and stage.model.pretrained is None


def noise_levels(stage: StageConfig, own: Mapping[str, Any]) -> Iterator[Finding]:
    """How noise levels are drawn, where there are any to draw."""
    objective = stage.objective
    # A resolved recipe, as a run directory keeps it, writes every setting and asks for nothing.
    resolved = all(holds(own, f"objective.{item.name}") for item in fields(ObjectiveConfig))
    asked = objective.times is not None and holds(own, "objective.times") and not resolved
    if objective.mask_rate is not None and asked:
        rate = f"mask_rate = {objective.mask_rate}"
        reason = f"ignored setting: with {rate} there is one noise level; remove one of them"
        yield Finding(("objective.times", "objective.mask_rate"), reason, objective.times)
    low, high = objective.rate_range
    if not 0 <= low < high <= 1:
        reason = "must be two mask rates, the lower one first, from 0 to 1"
        yield Finding(("objective.rate_range",), reason, list(objective.rate_range))
    elif objective.time == "discrete" and (high - low) * objective.num_timesteps < 2:
        reason = (
            f"too narrow for num_timesteps = {objective.num_timesteps}: widen it, or take "
            "objective.time=continuous"
        )
        yield Finding(("objective.rate_range",), reason, list(objective.rate_range))


def length_heads(stage: StageConfig, recipe: RecipeConfig) -> Iterator[Finding]:
    """The length predictor's heads, where its backbone is made from scratch in this recipe."""
    width, heads = _width(stage, recipe), stage.length.num_heads
    if width is not None and heads >= 1 and width % heads:
        reason = f"must divide {width}, the hidden_size of the backbone {stage.init_from}"
        yield Finding(("length.num_heads",), reason, heads)


def _width(stage: StageConfig, recipe: RecipeConfig) -> int | None:
    """hidden_size of the model from scratch that a stage goes back to; None where it is unknown."""
    seen: set[str] = set()
    while stage.init_from in recipe.stages and stage.init_from not in seen:
        seen.add(stage.init_from)
        stage = recipe.stages[stage.init_from]
        if stage.init_from is None and stage.model.pretrained is None:
            return stage.model.hidden_size
    return None
