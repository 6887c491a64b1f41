"""Whether the parts of ``data`` fit together: tasks, templates, mixture, demonstrations."""

from collections import Counter
from collections.abc import Iterator

from dlm.config.references import Finding
from dlm.config.schema import RecipeConfig, SourceConfig, StageConfig
from dlm.errors import did_you_mean

_DEFAULT_TASK = {"pretrain": "text", "instruct": "instruction"}


def task_of(stage: StageConfig) -> str:
    """Shape of the rows of a stage's sources that name none."""
    return stage.data.task or _DEFAULT_TASK.get(stage.kind, "translation")


def tasks_of(stage: StageConfig) -> set[str]:
    """Shapes of the rows of all sources of a stage."""
    sources = (*stage.data.train, *stage.data.validation)
    return {source.task or task_of(stage) for source in sources} or {task_of(stage)}


def source_name(source: SourceConfig) -> str:
    """The source's name, or what stands for it."""
    given = (source.path, ", ".join(source.parallel.values()), source.hub, source.generator)
    return source.name or next(filter(None, given), source.stage) or ""


def data_findings(stage: StageConfig, recipe: RecipeConfig) -> Iterator[Finding]:
    """What does not fit together in a stage's ``data``."""
    if stage.kind == "tokenizer":
        yield from _texts_only(stage)
        return
    yield from _text(stage, recipe)
    yield from _templates(stage)
    yield from _few_shot(stage)
    if stage.kind != "generate":  # which reads neither
        yield from _overlap(stage, recipe)
        yield from _mixture(stage)


def _text(stage: StageConfig, recipe: RecipeConfig) -> Iterator[Finding]:
    data = stage.data
    if data.text is not None and "text" not in tasks_of(stage) and data.text != recipe.data.text:
        reason = "ignored setting: only rows of the task text read it (others: prompt, response)"
        yield Finding(("data.text", "data.task"), f"{reason}; remove it", data.text)

    if task_of(stage) != "text":
        return
    for name in ("prompt", "response", "templates"):
        value = getattr(data, name)
        if value and value != getattr(recipe.data, name):
            reason = "ignored setting: data.task is text, and sources of other tasks have their own"
            yield Finding((f"data.{name}", "data.task"), f"{reason}; give it to the source", value)


def _overlap(stage: StageConfig, recipe: RecipeConfig) -> Iterator[Finding]:
    evaluates = any(other.kind == "evaluate" for other in recipe.stages.values())
    if stage.data.overlap != "ignore" and not evaluates:
        reason = "the recipe has no evaluate stage to compare with; add one, or set it to ignore"
        yield Finding(("data.overlap",), reason, stage.data.overlap)


def _templates(stage: StageConfig) -> Iterator[Finding]:
    data = stage.data
    for name in ("prompt", "response", "vary_prompts"):
        if data.templates and getattr(data, name):
            reason = "ignored setting: data.templates is given too; remove one of them"
            yield Finding((f"data.{name}", "data.templates"), reason, getattr(data, name))
    if data.vary_prompts and (data.prompt or data.response):
        reason = "excludes data.prompt and data.response, which are one template; remove one"
        yield Finding(("data.vary_prompts",), reason, True)
    for index, template in enumerate(data.templates):
        if not template.response:
            yield Finding((f"data.templates[{index}].response",), "missing: what is learnt")


def _mixture(stage: StageConfig) -> Iterator[Finding]:
    data, mixture = stage.data, stage.data.mixture
    if mixture.weights and (mixture.temperature is not None or mixture.cap is not None):
        reason = "given beside temperature or cap, which would be ignored; remove one of them"
        yield Finding(("data.mixture.weights",), reason)
    names = [source_name(source) for source in data.train]
    named = bool(mixture.weights) or mixture.temperature is not None or mixture.cap is not None
    for name, number in Counter(names).items():
        if named and number > 1:
            reason = f"{number} sources are called '{name}', and a mixture tells them by name"
            yield Finding(("data.train",), f"{reason}: give each a `name`")
    for name, weight in mixture.weights.items():
        if not 0 < weight < float("inf"):
            yield Finding((f"data.mixture.weights.{name}",), "must be above 0", weight)
        if name not in names:
            reason = f"no training source has this name{did_you_mean(name, names)}"
            yield Finding((f"data.mixture.weights.{name}",), reason)
    for name in names if mixture.weights else ():
        if name not in mixture.weights:
            reason = f"source '{name}' has no weight, and would never be drawn; give it one"
            yield Finding(("data.mixture.weights",), reason)


def _few_shot(stage: StageConfig) -> Iterator[Finding]:
    few_shot, names = stage.data.few_shot, [source_name(source) for source in stage.data.train]
    if not few_shot.count:
        return
    if "text" in tasks_of(stage):
        yield Finding(("data.few_shot.count",), "texts have no prompt to put demonstrations in")
    if few_shot.source is None and len(names) > 1:
        reason = f"missing: which training source gives the demonstrations ({', '.join(names)})"
        yield Finding(("data.few_shot.source",), reason)
    if few_shot.source is not None and few_shot.source not in names:
        reason = f"no training source has this name{did_you_mean(few_shot.source, names)}"
        yield Finding(("data.few_shot.source",), reason, few_shot.source)


def _texts_only(stage: StageConfig) -> Iterator[Finding]:
    """A tokenizer is trained on texts as they are: the rest would be ignored."""
    for index, source in enumerate(stage.data.train):
        for name in ("task", "prompt", "response", "leave_out", "keep_only"):
            if getattr(source, name):
                reason = f"ignored setting: kind tokenizer does not read a source's {name}"
                yield Finding((f"data.train[{index}]",), f"{reason}; remove it")
