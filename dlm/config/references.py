"""What a recipe refers to: its own stages and systems, sources, and files on this machine."""

import glob
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os.path import expanduser
from pathlib import Path
from typing import Any, NamedTuple

from dlm.config.schema import (
    SECTIONS_OF_KIND,
    WITHOUT_MODEL,
    EvaluationConfig,
    RecipeConfig,
    SourceConfig,
    StageConfig,
)
from dlm.data.sources import below, delimiter_reason, encoding_reason
from dlm.errors import did_you_mean
from dlm.names import RESULT
from dlm.places import absent, written_as_path
from dlm.quoting import on_one_line

NOTHING = object()
_SHOWN = 60
_SETTINGS_OF_ORIGIN = {
    "path": ("columns", "unquoted", "format", "delimiter"),
    "hub": ("hub_config", "hub_files", "revision", "streaming", "hub_fields"),
    "generator": ("options", "count"),
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the full key, the reason with its remedy, and the value."""

    key: str
    reason: str
    value: Any = NOTHING
    meant: str = ""
    """The key that an unknown one probably stands for."""

    def __str__(self) -> str:
        text = "null" if self.value is None else repr(self.value)
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        shown = "" if self.value is NOTHING else f" = {text}"
        return f"{on_one_line(self.key)}{shown}: {self.reason}"


class Finding(NamedTuple):
    """What a check of one stage found; the keys are relative to the stage, the first is blamed."""

    keys: tuple[str, ...]
    reason: str
    value: Any = NOTHING


def same_place(key: str, other: str) -> bool:
    """Whether one key is the other, or a part of it."""
    short, long = sorted((key, other), key=len)
    return bool(short) and long.startswith(short) and long[len(short) :][:1] in ("", ".", "[")


def holds(raw: Any, key: str) -> bool:
    """Whether the untyped recipe or stage writes this key (of a list item: the list)."""
    for part in key.partition("[")[0].split("."):
        if not isinstance(raw, Mapping) or part not in raw:
            return False
        raw = raw[part]
    return True


def stage_references(stage: StageConfig) -> list[tuple[str, str]]:
    """(key within the stage, value) of every setting that may name an earlier stage."""
    found = [("init_from", stage.init_from), ("tokenizer", stage.tokenizer)]
    if stage.kind == "evaluate":
        systems = stage.evaluation.systems.items()
        found += [(f"evaluation.systems.{name}.model", system.model) for name, system in systems]
    return [(key, value) for key, value in found if value]


def sources_read(stage: StageConfig) -> dict[str, list[SourceConfig]]:
    """Training and validation sources; a stage that writes rows does so from the former alone."""
    if "data" not in SECTIONS_OF_KIND[stage.kind]:
        return {"train": [], "validation": []}
    validation = stage.data.validation if stage.kind != "generate" else []
    return {"train": stage.data.train, "validation": validation}


def source_stages(stage: StageConfig) -> list[tuple[str, str]]:
    """(key within the stage, name) of every source that is what an earlier stage wrote."""
    return [
        (f"data.{place}[{index}].stage", source.stage)
        for place, sources in sources_read(stage).items()
        for index, source in enumerate(sources)
        if source.stage is not None
    ]


def required_stages(name: str, stage: StageConfig, recipe: RecipeConfig) -> list[str]:
    """The other stages of the recipe that stage ``name`` reads, in the recipe's order.

    A value that is the name of a stage means that stage, even where a directory is called so too.
    """
    values = {value for _, value in (*stage_references(stage), *source_stages(stage))}
    return [other for other in recipe.stages if other in values and other != name]


def looks_like_stage(value: str) -> bool:
    """Whether a reference can only mean a stage: no hub name (with a "/") and no directory."""
    return "/" not in value and not Path(value).is_dir()


def reference_findings(name: str, stage: StageConfig, recipe: RecipeConfig) -> Iterator[Finding]:
    """References to stages that come later, do not exist or have nothing to give."""
    order = list(recipe.stages)
    earlier = order[: order.index(name)]
    for key, value in stage_references(stage):
        if value in earlier:
            kind = recipe.stages[value].kind
            if kind in WITHOUT_MODEL and (kind, key) != ("tokenizer", "tokenizer"):
                yield Finding((key,), f"a stage of kind {kind} has nothing to give here", value)
        elif value in order:
            yield Finding((key,), _not_before(value, name), value)
        elif looks_like_stage(value):
            reason = "no earlier stage, directory or hub name (owner/model) is called so"
            yield Finding((key,), reason + did_you_mean(value, earlier), value)
    yield from _source_references(name, stage, recipe, earlier)
    if stage.kind == "evaluate":
        yield from _evaluation(stage.evaluation)


def _source_references(
    name: str, stage: StageConfig, recipe: RecipeConfig, earlier: Collection[str]
) -> Iterator[Finding]:
    """Sources that are no stage, one that comes later, or one that writes no rows."""
    writing = [other for other in earlier if recipe.stages[other].kind == "generate"]
    for key, value in source_stages(stage):
        if value not in recipe.stages:
            there = f" (there are {', '.join(writing)})" if writing else ", and there is none"
            reason = f"no stage is called so; name an earlier one of kind generate{there}"
            yield Finding((key,), reason + did_you_mean(value, writing), value)
        elif value not in earlier:
            yield Finding((key,), _not_before(value, name), value)
        elif (kind := recipe.stages[value].kind) != "generate":
            reason = f"a stage of kind {kind} writes no rows; name one of kind generate"
            yield Finding((key,), reason, value)


def _not_before(value: str, name: str) -> str:
    reason = "a stage cannot need itself" if value == name else "this stage comes later"
    return f"{reason}; name an earlier one"


def _evaluation(evaluation: EvaluationConfig) -> Iterator[Finding]:
    for key, values in (("systems", evaluation.systems), ("tasks", evaluation.tasks)):
        if not values:
            yield Finding((f"evaluation.{key}",), "missing: kind evaluate needs at least one")
    for name, system in evaluation.systems.items():
        if reason := RESULT.problem(name):
            yield Finding((f"evaluation.systems.{name}",), reason)
        if not system.model:
            yield Finding((f"evaluation.systems.{name}.model",), "missing: a stage or a directory")
    for index, pair in enumerate(evaluation.compare):
        if len(pair) != 2:
            yield Finding((f"evaluation.compare[{index}]",), "must be a pair of systems", pair)
    for index, pair in enumerate(evaluation.compare):
        yield from _unknown(f"evaluation.compare[{index}]", "system", pair, evaluation.systems)
    yield from _unknown("evaluation.only", "system", evaluation.only, evaluation.systems)
    for name, tasks in evaluation.only.items():
        yield from _unknown(f"evaluation.only.{name}", "evaluated task", tasks, evaluation.tasks)


def _unknown(
    key: str, what: str, names: Iterable[str], known: Collection[str]
) -> Iterator[Finding]:
    for name in (name for name in names if name not in known):
        yield Finding((key,), f"no {what} is called so{did_you_mean(name, known)}", name)


def serve_reason(recipe: RecipeConfig) -> str | None:
    """Why ``serve`` cannot be what the recipe says; None where it can."""
    if recipe.serve is None:
        return None
    if recipe.serve not in recipe.stages:
        return "no stage has this name" + did_you_mean(recipe.serve, recipe.stages)
    kind = recipe.stages[recipe.serve].kind
    return f"kind {kind} has no model to serve" if kind in WITHOUT_MODEL else None


def source_findings(stage: StageConfig) -> Iterator[Finding]:
    """Whether the stage has rows to read, and each source one origin."""
    if not stage.data.train:
        yield Finding(("data.train",), f"missing: kind {stage.kind} needs at least one source")
    for place, sources in sources_read(stage).items():
        for index, source in enumerate(sources):
            for reason in _source_reasons(source):
                yield Finding((f"data.{place}[{index}]",), reason)
    yield from _holdout_leaks(stage)


def _holdout_leaks(stage: StageConfig) -> Iterator[Finding]:
    """Validation rows that are trained on: one set in both places, but not its two parts."""
    for index, validation in enumerate(sources_read(stage)["validation"]):
        for other, train in enumerate(stage.data.train):
            split = (train.holdout, validation.holdout)
            same = _rows_of(train, "train") == _rows_of(validation, "validation")
            if not same or all(holdout.share is None for holdout in split):
                continue
            parts = (split[0].part or "train", split[1].part or "validation")
            alike = (split[0].share, split[0].by) == (split[1].share, split[1].by)
            if parts[0] == parts[1] or not alike:
                yield Finding(
                    (f"data.validation[{index}]", f"data.train[{other}]"),
                    f"data.train[{other}] reads the same set, and not the other part of it: give "
                    "both the same holdout (share, by), and no part",
                )


def _rows_of(source: SourceConfig, place: str) -> tuple[Any, ...]:
    """What tells one set of rows from another."""
    split = source.split or ("train" if source.holdout.share is not None else place)
    texts = tuple(sorted(source.parallel.items()))
    of_hub = (source.hub, source.hub_config, source.revision, split) if source.hub else ()
    generated = (source.generator, source.count, source.options, split) if source.generator else ()
    return (source.path, texts, of_hub, generated, source.stage)


def _source_reasons(source: SourceConfig) -> Iterator[str]:
    local = source.path is not None or bool(source.parallel)
    files = local or source.hub is not None
    made = [name for name in ("generator", "stage") if getattr(source, name) is not None]
    if not made and not files:
        yield "needs one of path, parallel, hub, generator and stage"
    if made and files:
        yield f"{made[0]} excludes path, parallel and hub; remove one of them"
    if source.path is not None and source.parallel:
        yield "path and parallel exclude each other; remove one of them"
    if len(source.parallel) == 1:
        yield "parallel needs two fields or more, each with its file; for one file give path"
    if source.encoding is not None and not local:
        yield "ignored setting: encoding is read with path and parallel only; remove it"
    reasons = (encoding_reason(source.encoding), delimiter_reason(source.delimiter))
    yield from (reason for reason in reasons if reason is not None)
    if source.hub is not None and written_as_path(source.hub):
        yield (
            f"hub = {source.hub!r} is a path, and the hub's data sets are called owner/name: name "
            "local files with path"
        )
    if len(made) > 1:
        yield "generator and stage exclude each other; remove one of them"
    if source.generator is not None and source.count is None:
        yield "generator needs count, the number of rows"
    for name in ("count", "limit"):
        number = getattr(source, name)
        if number is not None and number < 1:
            yield f"{name} = {number} must be at least 1"
    share = source.holdout.share
    if share is not None and not 0 < share < 1:
        yield f"holdout.share = {share} must be above 0 and below 1"
    if share is None and (source.holdout.part is not None or source.holdout.by):
        yield "holdout needs share, the part of the rows that is held out"
    for origin, settings in _SETTINGS_OF_ORIGIN.items():
        for name in settings if getattr(source, origin) is None else ():
            if getattr(source, name):
                yield f"ignored setting: {name} is read with {origin} only; remove it"


def local_path(source: SourceConfig, root: str | None) -> Path | None:
    """The local file that a source names; None where it reads the hub, a generator or a stage.

    ``path`` is used when ``root`` is set (relative to it) or when nothing else is given (relative
    to the current directory).
    """
    if source.path is None or not _is_local(source, root):
        return None
    return below(Path(root or "").expanduser(), expanduser(source.path))


def local_texts(source: SourceConfig, root: str | None) -> dict[str, Path]:
    """The files of ``parallel`` by field, where they are read: see :func:`local_path`."""
    if not _is_local(source, root):
        return {}
    folder = Path(root or "").expanduser()
    return {name: folder / expanduser(path) for name, path in source.parallel.items()}


def _is_local(source: SourceConfig, root: str | None) -> bool:
    return root is not None or (source.hub is None and source.generator is None)


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder, or a file that the glob pattern matches."""
    pattern = glob.has_magic(str(path))
    return path.exists() or (pattern and bool(glob.glob(str(path), recursive=True)))


def missing_files(recipe: RecipeConfig) -> list[str]:
    """One line per local file or directory that the recipe names and that is not there."""
    stages = recipe.stages
    lines = (line for name, stage in stages.items() for line in _missing(name, stage, stages))
    return list(dict.fromkeys(lines))


def _missing(name: str, stage: StageConfig, stages: Collection[str]) -> Iterator[str]:
    if "data" in SECTIONS_OF_KIND[stage.kind]:
        yield from _missing_sources(stage)
    models = [*stage_references(stage)]
    if "model" in SECTIONS_OF_KIND[stage.kind] and stage.init_from is None:
        models.append(("model.pretrained", stage.model.pretrained or ""))
    for key, value in models:
        if value not in stages and (reason := absent(value) if value else None):
            yield f"stages.{name}.{key} = {value!r}: {reason}"
    for task in stage.evaluation.tasks if stage.kind == "evaluate" else []:
        if task.endswith((".yaml", ".yml")) and not Path(task).is_file():
            yield f"stages.{name}.evaluation.tasks: no such file: {task!r}"


def _missing_sources(stage: StageConfig) -> Iterator[str]:
    """Without the stage's name, so that a file shared by stages is named once."""
    data = stage.data
    if data.root is not None and not Path(data.root).expanduser().is_dir():
        yield f"data.root = {data.root!r}: no such directory"
        return
    for place, sources in sources_read(stage).items():
        for source in sources:
            path = local_path(source, data.root)
            named = {} if path is None else {f"path = {source.path!r}": path}
            for name, text in local_texts(source, data.root).items():
                named[f"parallel.{name} = {source.parallel[name]!r}"] = text
            for setting, file in named.items():
                if reason := _absent(file, source, data.root):
                    yield f"data.{place}: {setting}: {reason}"


def _absent(path: Path, source: SourceConfig, root: str | None) -> str:
    """Why there are no files, and how to get them; empty where there are."""
    if is_there(path):
        return ""
    pattern = source.path is not None and glob.has_magic(source.path)
    found = f"no {'file matches' if pattern else 'such file:'} {path}"
    if root is None:
        return found if path.is_absolute() else f"{found}; set data.root=DIR"
    if source.hub is None:
        return f"{found}; put it there, or set data.root=DIR to the folder that has it"
    return f"{found}; put it there, or leave data.root out to read {source.hub} from the hub"
