"""What a typed recipe must mean: settings that are read, values in range, parts that fit."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import reduce
from typing import Any

from dlm.config.checks.canvas import canvas_findings, systems_without_canvas
from dlm.config.checks.data import data_findings, tasks_of
from dlm.config.checks.generate import generate_findings
from dlm.config.checks.hardware import strategy_findings
from dlm.config.checks.model import (
    fresh_head_findings,
    length_heads,
    noise_levels,
    response_findings,
    sizes_of_a_finished_model,
    vocabulary_findings,
)
from dlm.config.durations import seconds_of
from dlm.config.ranges import RANGE_OF, SEED, source_numbers
from dlm.config.references import (
    Finding,
    Problem,
    holds,
    reference_findings,
    same_place,
    serve_reason,
    source_findings,
)
from dlm.config.schema import (
    SECTIONS_OF_KIND,
    LoraConfig,
    RecipeConfig,
    Sections,
    StageConfig,
)
from dlm.config.shipped import RawRecipe
from dlm.names import LINE, STAGE, TITLE

SECTIONS = tuple(section.name for section in fields(Sections))
READ_BY_EVERY_KIND = ("checkpoint", "hardware", "logging")

_TRAINED = ("pretrain", "adapt", "length", "instruct", "autoregressive")
_DIFFUSION = ("adapt", "instruct", "generate", "evaluate")
_AUTOREGRESSIVE = ("autoregressive", "generate", "evaluate")
_KINDS_OF_SETTING: dict[str, tuple[str, ...]] = {
    **{
        f"data.{name}": _TRAINED
        for name in (
            "validation",
            "mixture",
            "deduplicate",
            "overlap",
            "max_length",
        )
    },
    **{
        f"data.{name}": (*_TRAINED, "generate")
        for name in (
            "task",
            "prompt",
            "response",
            "templates",
            "vary_prompts",
            "few_shot",
            "too_long",
        )
    },
    "data.canvas_length": ("adapt", "instruct"),
    "objective.canvas_padding": ("adapt", "instruct"),
    "objective.prompt_dropout": ("adapt", "instruct"),
    "train.length_grouping": ("pretrain", "adapt", "instruct", "autoregressive"),
    "train.layout": ("pretrain", "adapt", "instruct", "autoregressive"),
    "data.text_blocks": ("pretrain", "adapt", "instruct", "autoregressive"),
    "model.attention": ("adapt", "instruct"),
    "model.attention_annealing_steps": ("pretrain", "adapt", "instruct"),
    "objective.mask_rate": ("pretrain",),
    "objective.replace_80_10_10": ("pretrain",),
    "generation.sampler": _DIFFUSION,
    "generation.num_iterations": _DIFFUSION,
    "generation.length": _DIFFUSION,
    "generation.length_beam": _DIFFUSION,
    "generation.rerank": _DIFFUSION,
    **{
        f"generation.{name}": _DIFFUSION
        for name in (
            "temperature",
            "top_k",
            "top_p",
            "score",
            "threshold",
            "entropy_bound",
            "guidance",
            "guidance_keeps_special",
            "block_length",
            "canvas_length",
            "end_last",
            "prompt_cache",
            "seed",
        )
    },
    "generation.beam_size": _AUTOREGRESSIVE,
    "generation.length_penalty": _AUTOREGRESSIVE,
    "generation.max_new_tokens": _AUTOREGRESSIVE,
    "generation.min_length": ("autoregressive", *_DIFFUSION),
    "generation.end_penalty": ("autoregressive", *_DIFFUSION),
}
"""Settings that fewer kinds read than their section."""


def reads(kind: str, key: str) -> bool:
    """Whether stages of this kind read a section or a setting ("optim", "optim.lr")."""
    section = key.partition(".")[0]
    if section in READ_BY_EVERY_KIND or key == "data.root" or kind not in SECTIONS_OF_KIND:
        return True
    return section in SECTIONS_OF_KIND[kind] and kind in _KINDS_OF_SETTING.get(key, (kind,))


def recipe_problems(recipe: RecipeConfig) -> Iterator[Problem]:
    """What is wrong with the recipe as a whole."""
    if not recipe.stages:
        yield Problem("stages", "a recipe needs at least one stage")
    if reason := TITLE.problem(recipe.name):
        yield Problem("name", reason, recipe.name)
    for name in recipe.stages:
        if reason := STAGE.problem(name):
            yield Problem(f"stages.{name}", reason)
    for key, values in (("license", [recipe.license or ""]), ("languages", recipe.languages)):
        for value in values:
            if reason := LINE.problem(value):
                yield Problem(key, reason, value)
    if not SEED.fits(recipe.seed):
        yield Problem("seed", f"must be {SEED}", recipe.seed)
    if reason := serve_reason(recipe):
        yield Problem("serve", reason, recipe.serve)


def stage_problems(
    name: str, recipe: RecipeConfig, raw: RawRecipe, earlier: Sequence[Problem]
) -> Iterator[Problem]:
    """What is wrong with one stage as resolved, each blamed on the line that says it.

    A finding about a setting that ``earlier`` already names is left out: it would follow from it.
    """
    prefix, own = f"stages.{name}.", raw["stages"][name]
    keys_named = (key for problem in earlier for key in (problem.key, problem.meant))
    named = {key.removeprefix(prefix) for key in keys_named}
    if "kind" in named or not isinstance(own, Mapping):
        return
    for keys, reason, value in stage_findings(name, recipe.stages[name], recipe, own):
        if not any(same_place(key, other) for key in keys for other in named):
            inherited = not holds(own, keys[0]) and holds(raw, keys[0])
            yield Problem(keys[0] if inherited else prefix + keys[0], reason, value)


def stage_findings(
    name: str, stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any]
) -> Iterator[Finding]:
    """What is wrong with one stage; ``own`` is what the recipe writes under it."""
    yield from _ignored(stage, recipe, own)
    yield from reference_findings(name, stage, recipe)
    yield from _out_of_range(stage)
    yield from _limits(stage)
    if reads(stage.kind, "data"):
        yield from source_findings(stage)
        yield from data_findings(stage, recipe)
        yield from _text_blocks(stage)
    if reads(stage.kind, "model"):
        yield from _model(stage)
        yield from sizes_of_a_finished_model(stage, recipe, own)
        yield from fresh_head_findings(stage, recipe, own)
        yield from vocabulary_findings(stage)
        yield from response_findings(stage, recipe, own)
    if reads(stage.kind, "objective"):
        yield from noise_levels(stage, own)
    if reads(stage.kind, "train"):
        yield from _training(stage)
        yield from strategy_findings(stage)
        yield from _precision(stage)
    if reads(stage.kind, "lora"):
        yield from _lora(stage, recipe, own)
    if stage.kind in ("adapt", "instruct"):
        yield from canvas_findings(stage, recipe, own)
    if stage.kind == "length" and stage.init_from is None:
        yield Finding(("init_from",), "missing: a length predictor needs the backbone to read")
    if stage.kind == "length":
        yield from length_heads(stage, recipe)
    if stage.kind == "evaluate":
        yield from systems_without_canvas(stage, recipe)
    if stage.kind == "generate":
        yield from generate_findings(stage, recipe, own)


def _ignored(stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any]) -> Iterator[Finding]:
    kind = stage.kind
    read = ", ".join((*SECTIONS_OF_KIND[kind], *READ_BY_EVERY_KIND))
    for section in (key for key in own if key in SECTIONS and not reads(kind, key)):
        yield Finding((section,), f"ignored setting: kind {kind} reads only {read}; remove it")
    for key, kinds in _KINDS_OF_SETTING.items():
        given = reads(kind, key.partition(".")[0]) and holds(own, key)
        if given and not reads(kind, key) and _value(stage, key) != _value(recipe, key):
            reason = f"ignored setting: kind {kind} does not read it ({', '.join(kinds)} do)"
            yield Finding((key,), f"{reason}; remove it", _value(stage, key))
    if stage.init_from is not None and kind in ("tokenizer", "evaluate"):
        reason = f"ignored setting: kind {kind} does not start from a model; remove it"
        yield Finding(("init_from",), reason, stage.init_from)
    yield from _two_origins(stage, recipe)


def _two_origins(stage: StageConfig, recipe: RecipeConfig) -> Iterator[Finding]:
    pretrained = stage.model.pretrained if reads(stage.kind, "model") else None
    if stage.kind == "generate":
        return
    if stage.tokenizer and (stage.init_from or pretrained or not reads(stage.kind, "model")):
        origin = "init_from" if stage.init_from else "model.pretrained" if pretrained else "kind"
        reason = f"ignored setting: with this {origin} no tokenizer is chosen; remove it"
        yield Finding(("tokenizer", origin), reason, stage.tokenizer)
    if stage.init_from and pretrained and pretrained != recipe.model.pretrained:
        reason = "ignored setting: init_from is given too; set one of them to null"
        yield Finding(("model.pretrained", "init_from"), reason, pretrained)


def _out_of_range(stage: StageConfig) -> Iterator[Finding]:
    found = [(key, key, _value(stage, key)) for key in RANGE_OF if reads(stage.kind, key)]
    for name, system in stage.evaluation.systems.items() if stage.kind == "evaluate" else ():
        prefix = f"evaluation.systems.{name}.generation."
        given = system.generation.items()
        found += [(prefix + key, f"generation.{key}", value) for key, value in given]
    for key, setting, value in found:
        allowed = RANGE_OF.get(setting)
        # A system's settings are typed only later.
        if allowed and isinstance(value, int | float) and not allowed.fits(value):
            yield Finding((key,), f"must be {allowed}", value)
    for key, allowed, number in source_numbers(stage) if reads(stage.kind, "data") else ():
        if number > allowed.high:  # a smaller one is refused with the source
            yield Finding((key,), f"must be {allowed}", number)
    if stage.seed is not None and not SEED.fits(stage.seed):
        yield Finding(("seed",), f"must be {SEED}", stage.seed)
    if reads(stage.kind, "optim") and not all(0 <= beta < 1 for beta in stage.optim.betas):
        yield Finding(("optim.betas",), "each must be at least 0 and below 1", stage.optim.betas)


def _limits(stage: StageConfig) -> Iterator[Finding]:
    hardware = stage.hardware
    if hardware.max_time is not None:
        try:
            seconds_of(hardware.max_time)
        except ValueError as error:
            yield Finding(("hardware.max_time",), str(error), hardware.max_time)
    if hardware.timeout_s is not None and hardware.strategy == "auto":
        reason = "ignored setting: it needs hardware.strategy=ddp; remove it, or set that"
        yield Finding(("hardware.timeout_s", "hardware.strategy"), reason, hardware.timeout_s)


def _model(stage: StageConfig) -> Iterator[Finding]:
    model = stage.model
    if stage.init_from is not None or model.pretrained is not None:
        return
    if stage.tokenizer is None:
        reason = "missing: a model from scratch needs one (a tokenizer stage, directory or hub"
        keys = ("tokenizer", "init_from", "model.pretrained")
        yield Finding(keys, f"{reason} name), unless init_from or model.pretrained is given")
    if model.num_heads >= 1 and model.hidden_size % model.num_heads:
        reason = f"must divide model.hidden_size = {model.hidden_size}"
        yield Finding(("model.num_heads", "model.hidden_size"), reason, model.num_heads)
    if stage.data.max_length > model.max_positions:
        reason = f"longer than model.max_positions = {model.max_positions}; lower it or raise that"
        yield Finding(("data.max_length", "model.max_positions"), reason, stage.data.max_length)


def _text_blocks(stage: StageConfig) -> Iterator[Finding]:
    data = stage.data
    if data.text_blocks is None or not reads(stage.kind, "data.text_blocks"):
        return
    if "text" not in tasks_of(stage):
        reason = "ignored setting: only rows of the task text are joined; remove it"
        yield Finding(("data.text_blocks", "data.task"), reason, data.text_blocks)
    elif data.text_blocks > data.max_length:
        reason = f"longer than data.max_length = {data.max_length}; lower it or raise that"
        yield Finding(("data.text_blocks", "data.max_length"), reason, data.text_blocks)


def _training(stage: StageConfig) -> Iterator[Finding]:
    train, optim, validation = stage.train, stage.optim, stage.validation
    if (optim.warmup_steps or 0) > train.steps:
        reason = f"more than train.steps = {train.steps}; the peak would never be reached"
        yield Finding(("optim.warmup_steps", "train.steps"), reason, optim.warmup_steps)
    annealing, key = stage.model.attention_annealing_steps, "model.attention_annealing_steps"
    if reads(stage.kind, key) and annealing > train.steps:
        reason = f"more than train.steps = {train.steps}: attention would not become bidirectional"
        yield Finding((key, "train.steps"), reason, annealing)
    yield from _batches(stage)
    if validation.export != "best":
        return
    if not stage.data.validation:
        reason = "needs data.validation to choose by; give sources or export the last"
        yield Finding(("validation.export", "data.validation"), reason, "best")
    if validation.every_n_steps > train.steps:
        reason = f"more than train.steps = {train.steps}: nothing to choose from; lower it"
        places = ("validation.every_n_steps", "train.steps")
        yield Finding(places, reason, validation.every_n_steps)


def _batches(stage: StageConfig) -> Iterator[Finding]:
    train = stage.train
    tokens, key = train.global_batch_tokens, "train.global_batch_tokens"
    if tokens is not None and train.global_batch_size is not None:
        reason = (
            f"train.global_batch_size = {train.global_batch_size} is given too: the size of a step "
            "is said in tokens or in rows; set one of them to null"
        )
        yield Finding((key, "train.global_batch_size"), reason, tokens)
    if tokens is None and train.micro_batch_tokens is not None:
        reason = f"ignored setting: without {key} rows are counted; give micro_batch_size"
        yield Finding(("train.micro_batch_tokens",), reason, train.micro_batch_tokens)
    if tokens is not None and train.micro_batch_size is not None:
        reason = f"ignored setting: with {key} tokens are counted; give micro_batch_tokens"
        yield Finding(("train.micro_batch_size",), reason, train.micro_batch_size)
    batch, micro = train.batch_rows, train.micro_batch_size
    devices, nodes = stage.hardware.devices, stage.hardware.num_nodes
    factors = {"micro_batch_size": micro, "devices": devices, "num_nodes": nodes}
    given = {name: factor for name, factor in factors.items() if factor is not None}
    unit = math.prod(given.values())
    if batch is not None and unit >= 1 and batch % unit:
        product = " x ".join(f"{name} {factor}" for name, factor in given.items())
        below, above = batch // unit * unit, -(-batch // unit) * unit
        fits = f"{below} or {above}" if below else f"{above}"
        reason = f"must be a multiple of {product} = {unit}, such as {fits}"
        keys = ("train.global_batch_size", "train.micro_batch_size", "hardware")
        yield Finding(keys, reason, batch)


def _precision(stage: StageConfig) -> Iterator[Finding]:
    if stage.train.precision == "16-mixed" and stage.hardware.accelerator == "cpu":
        reason = "needs a GPU, and hardware.accelerator is cpu; use bf16-mixed or 32-true"
        yield Finding(("train.precision", "hardware.accelerator"), reason, "16-mixed")


def _lora(stage: StageConfig, recipe: RecipeConfig, own: Mapping[str, Any]) -> Iterator[Finding]:
    if stage.lora.rank:
        return
    nowhere = not any(other.lora.rank for other in recipe.stages.values())
    for name in ("alpha", "dropout", "targets", "train_also", "keep_adapter"):
        key = f"lora.{name}"
        value = _value(stage, key)
        if (nowhere or holds(own, key)) and value != getattr(LoraConfig(), name):
            reason = "ignored setting: lora.rank is not set; set it, or remove this"
            yield Finding((key, "lora.rank"), reason, value)


def _value(config: Sections, key: str) -> Any:
    return reduce(getattr, key.split("."), config)
