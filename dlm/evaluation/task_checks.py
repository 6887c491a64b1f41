"""What is wrong with the contents of a task file, in words."""

import re
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any, Literal, get_args

from dlm.data.prompts import Template
from dlm.data.sources import Format, delimiter_reason, encoding_reason, json_kind
from dlm.data.tasks.registry import TASKS
from dlm.errors import did_you_mean, quote_it
from dlm.evaluation.extraction.languages import language_problem
from dlm.evaluation.task_shots import few_shot_problems

TaskKind = Literal["generation", "multiple_choice", "perplexity"]

_LANGUAGES = ("language", "reference_language")

KEYS_OF_KIND: dict[str, set[str]] = {
    "generation": {
        "prompt",
        "response",
        "task",
        "few_shot",
        "variants",
        "cluster",
        *_LANGUAGES,
    },
    "multiple_choice": {"prompt", "choices", "answer", "likelihood", "cluster"},
    "perplexity": {"prompt", "response", "text", "likelihood"},
}
"""Keys that only some kinds have."""
_KEYS = {"version", "description", "kind", "source", "metrics"}
_SOURCE_KEYS = {"path", "hub", "hub_config", "revision", "split", "generator", "options", "count",
                "fields", "hub_fields", "hub_files", "columns", "unquoted", "limit",
                "keep_only", "parallel", "format", "delimiter", "encoding",
                "ignored_fields"}  # fmt: skip
_TEXTS = _SOURCE_KEYS - {"options", "count", "limit", "unquoted"}
"""Keys of a source that hold texts, or lists or mappings of them."""
_TYPES: dict[str, type] = {
    "version": int, "description": str, "source": dict, "metrics": list, "prompt": str,
    "response": str, "text": str, "answer": str, "likelihood": dict,
    "task": str,
}  # fmt: skip
_WORDS = {int: "a whole number", dict: "a mapping", list: "a list", str: "text"}
ESTIMATORS = ("exactly_l", "bernoulli", "chain_rule")
_LIKELIHOOD: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "estimator": (f"one of {', '.join(ESTIMATORS)}", lambda value: value in ESTIMATORS),
    "samples": ("a whole number, at least 1", lambda value: type(value) is int and value >= 1),
    "seed": ("a whole number", lambda value: type(value) is int),
    "min_time": (
        "a number between 0 and 1",
        lambda value: isinstance(value, float) and 0 < value < 1,
    ),
}


def task_problems(raw: dict[str, Any]) -> list[str]:
    """Everything that is wrong, or nothing."""
    kind = raw.get("kind", "generation")
    if kind not in get_args(TaskKind):
        known = get_args(TaskKind)
        return [
            f"kind = {kind!r} must be one of {', '.join(known)}{did_you_mean(str(kind), known)}"
        ]
    keys = _KEYS | KEYS_OF_KIND[kind]
    problems = [_unknown(str(key), kind, keys) for key in raw if key not in keys]
    needed = ["version", "source", "metrics"]
    if kind == "multiple_choice":
        needed += ["prompt", "choices", "answer"]
    problems += [f"'{key}' is missing" for key in needed if not raw.get(key)]
    for key, wanted in _TYPES.items():
        if key in keys and raw.get(key) and not isinstance(raw[key], wanted):
            quoted = f" ({quote_it(raw[key])})" if wanted is str and _is_scalar(raw[key]) else ""
            problems.append(
                f"{key} is {json_kind(raw[key])}, where it must be {_WORDS[wanted]}{quoted}"
            )
    if kind == "perplexity":
        problems += _text_or_pair(raw)
    if kind == "multiple_choice" and raw.get("choices"):
        problems += _choices(raw["choices"])
    if not problems:
        problems = [*_source(raw["source"]), *_metrics(raw["metrics"], kind)]
        problems += likelihood_problems(raw.get("likelihood") or {})
        problems += [*_examples(raw), *_languages(raw), *_cluster(raw.get("cluster"))]
    if not problems:
        problems += _sari(raw)
    return problems


def _choices(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        return
    texts = isinstance(value, list) and all(isinstance(c, str) and c.strip() for c in value)
    if not texts or len(value) < 2 or len(set(value)) < len(value):
        yield (
            "choices must be the name of a field, or a list of at least two texts, all different"
        )


def _languages(raw: dict[str, Any]) -> Iterator[str]:
    for key in (key for key in _LANGUAGES if key in raw):
        if problem := language_problem(raw[key]):
            yield f"{key} = {problem}"


def _sari(raw: dict[str, Any]) -> Iterator[str]:
    """SARI compares with the sentence itself: an instruction around it would count as deleted."""
    template = Template.of(raw.get("task", "translation"), raw.get("prompt"), raw.get("response"))
    if "sari" in raw["metrics"] and not re.fullmatch(r"\s*\{\w+\}\s*", template.prompt):
        yield (
            "metric 'sari' compares with the source sentence, so the prompt must be a field alone, "
            f'such as "{{src}}", not {template.prompt!r}'
        )


def _cluster(value: Any) -> Iterator[str]:
    """A field, or a field and the pattern of the part that rows share."""
    if value is None or (isinstance(value, str) and value.strip()):
        return
    texts = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    if not texts or set(value) != {"field", "pattern"}:
        yield "cluster must be the name of a field, or {field: NAME, pattern: REGULAR EXPRESSION}"
        return
    try:
        groups = re.compile(value["pattern"]).groups
    except re.error as error:
        yield f"cluster.pattern = {value['pattern']!r} is no regular expression: {error}"
        return
    if groups != 1:
        yield f"cluster.pattern = {value['pattern']!r} must have one group, not {groups}"


def _examples(raw: dict[str, Any]) -> Iterator[str]:
    if "few_shot" in raw:
        yield from few_shot_problems(raw["few_shot"])
        shown = raw["few_shot"].get("source") if isinstance(raw["few_shot"], dict) else None
        if isinstance(shown, dict):
            yield from (f"few_shot: {problem}" for problem in _source(shown))
    if raw.get("task", "translation") not in TASKS:
        hint = did_you_mean(raw["task"], TASKS)
        yield f"task = '{raw['task']}' is none of {', '.join(TASKS)}{hint}"
    if "variants" in raw:
        yield "variants are read in shipped tasks only: write a file for each"


def likelihood_problems(settings: dict[str, Any]) -> list[str]:
    """What is wrong with settings of the likelihood."""
    problems = [
        f"unknown key 'likelihood.{key}'{did_you_mean(str(key), _LIKELIHOOD)}"
        for key in settings
        if key not in _LIKELIHOOD
    ]
    for key, (words, fits) in _LIKELIHOOD.items():
        if key in settings and not fits(settings[key]):
            problems.append(f"likelihood.{key} = {settings[key]!r} must be {words}")
    if settings.get("samples") == 1 and settings.get("estimator") != "chain_rule":
        problems.append(
            "likelihood.samples = 1 gives no standard error: use at least 2, or estimator "
            "chain_rule, which draws nothing"
        )
    return problems


def _unknown(key: str, kind: str, keys: set[str]) -> str:
    owners = [other for other, own in KEYS_OF_KIND.items() if key in own]
    if owners:
        return f"'{key}' is read by kind {' and '.join(owners)}, not by {kind}: remove it"
    return f"unknown key '{key}'{did_you_mean(key, keys)}"


def _text_or_pair(raw: dict[str, Any]) -> Iterator[str]:
    if "text" in raw and ("prompt" in raw or "response" in raw):
        yield "'text' and 'prompt' exclude each other: give text, or prompt and response"
    elif ("prompt" in raw) != ("response" in raw):
        yield "'prompt' and 'response' belong together: give both, or neither for texts alone"


def _source(source: dict[str, Any]) -> list[str]:
    problems = [
        f"unknown key 'source.{key}'{did_you_mean(str(key), _SOURCE_KEYS)}"
        for key in source
        if key not in _SOURCE_KEYS
    ]
    if not any(source.get(origin) for origin in ("path", "parallel", "hub", "generator")):
        problems.append("source needs one of path, parallel, hub and generator")
    if source.get("path") and source.get("parallel"):
        problems.append("source.path and source.parallel exclude each other: remove one of them")
    if source.get("generator") and not source.get("count"):
        problems.append("source.count is missing: how many rows the generator makes")
    kept = source.get("keep_only", {})
    if not isinstance(kept, dict) or not all(isinstance(v, list) and v for v in kept.values()):
        problems.append("source.keep_only must map fields to lists of the values that are kept")
    for key in ("count", "limit"):
        number = source.get(key)
        if number is not None and (type(number) is not int or number < 1):
            problems.append(f"source.{key} = {number!r} must be a whole number, at least 1")
    for key in ("columns", "ignored_fields"):
        if not isinstance(source.get(key, []), list):
            problems.append(f"source.{key} is {json_kind(source[key])}, where it must be a list")
    for key in ("fields", "hub_fields", "parallel", "options"):
        if not isinstance(source.get(key, {}), dict):
            problems.append(f"source.{key} is {json_kind(source[key])}, where it must be a mapping")
    for key in _TEXTS & source.keys():
        problems += [f"{at} = {value!r} must be text: {quote_it(value)}"
                     for at, value in _misread(f"source.{key}", source[key])]  # fmt: skip
    if not problems:
        problems += _reading(source)
    return problems


def _reading(source: dict[str, Any]) -> Iterator[str]:
    formats = [name for name in get_args(Format) if name != "saved"]
    if source.get("format") not in (None, *formats):
        near = did_you_mean(source["format"], formats)
        yield f"source.format = '{source['format']}' must be one of {', '.join(formats)}{near}"
    if (reason := encoding_reason(source.get("encoding"))) is not None:
        yield f"source.{reason}"
    if (reason := delimiter_reason(source.get("delimiter"))) is not None:
        yield f"source.{reason}"


def _misread(at: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value, and key of a mapping, that YAML has read as another scalar than text."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _misread(f"the key {key!r} of {at}", key)
            yield from _misread(f"{at}.{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _misread(f"{at}[{index}]", item)
    elif _is_scalar(value):
        yield at, value


def _is_scalar(value: Any) -> bool:
    """Whether a value of YAML is a scalar, and no text."""
    return not isinstance(value, str | list | dict | NoneType)


def _metrics(metrics: list[Any], kind: str) -> Iterator[str]:
    from dlm.evaluation.metrics import METRICS

    own = METRICS[kind]
    for name in (name for name in metrics if name not in own):
        owner = next((other for other in METRICS if name in METRICS[other]), None)
        there_are = f"(there are {', '.join(own)})"
        if owner is not None:
            yield f"metric '{name}' is of tasks of kind {owner}, not of {kind} {there_are}"
        else:
            yield f"unknown metric '{name}'{did_you_mean(str(name), own)} {there_are}"
