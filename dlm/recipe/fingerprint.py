"""What a stage is: the content key that decides whether its result may be used again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

from dlm.config.checks.data import tasks_of
from dlm.config.checks.every_stage import reads
from dlm.config.schema import SECTIONS_OF_KIND, StageConfig
from dlm.generation.settings import GenerationSettings
from dlm.training.exported_step import exports_best, scores_answers

FORMAT = 1
"""Version of the key; a change here makes every earlier result stale."""

NOT_SET = "(not set)"
ROWS, LOCAL_FILES = "rows", "local files"
"""Keys of the data's identity where a stage also reads models or tokenizers from directories."""
_WHERE = {f.name for f in fields(GenerationSettings) if not f.metadata.get("semantic", True)}
_USUAL_ITERATIONS = 10
_OWN_ITERATIONS = ("llada", "dream-entropy", "fast-dllm", "eb", "mdlm")
_SAMPLER_RULES = {
    "llada": "its own schedule",
    "dream-entropy": "its own schedule and distribution",
    "fast-dllm": "blocks of 32",
}
_REFERENCE_FIELDS = ("init_from", "tokenizer")


@dataclass(frozen=True)
class StageIdentity:
    """Everything that decides a stage's result. The fingerprint is its hash."""

    fingerprint: str
    """sha256, hexadecimal."""
    kind: str
    """Stage kind."""
    config: dict[str, Any]
    """Semantic configuration; earlier stages are referred to by name."""
    needs: dict[str, str]
    """Name of each earlier stage it reads -> that stage's fingerprint."""
    data: Any
    """Identity of the rows, JSON-able."""

    def as_json(self) -> dict[str, Any]:
        """The identity as it is kept in started.json and manifest.json."""
        return {
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "semantic_config": self.config,
            "needs": self.needs,
            "data_identity": self.data,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "StageIdentity":
        """Read back what :meth:`as_json` wrote; KeyError or TypeError when it is damaged."""
        return cls(
            fingerprint=str(values["fingerprint"]),
            kind=str(values["kind"]),
            config=dict(values["semantic_config"]),
            needs=dict(values["needs"]),
            data=values["data_identity"],
        )


@dataclass(frozen=True)
class Change:
    """One value that differs between two identities."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.old)} -> {_shown(self.new)}"


def semantic_config(stage: StageConfig) -> dict[str, Any]:
    """The values of ``stage`` that decide its result, by section.

    The names of local files and sources are left out: the rows themselves are in the data's
    identity, so moving a file changes nothing.
    """
    config = {name: plain(getattr(stage, name)) for name in SECTIONS_OF_KIND[stage.kind]}
    data = config.get("data", {})
    # Where settings refer to sources by name, the names say which is which.
    by_name = bool(data and (data["mixture"]["weights"] or data["few_shot"]["source"]))
    if stage.kind == "generate":
        config["data"] = {key: data[key] for key in data if reads(stage.kind, f"data.{key}")}
    for place in ("train", "validation"):
        for source in config.get("data", {}).get(place, ()):
            del source["path"]
            if not by_name:
                del source["name"]
    for system in config.get("evaluation", {}).get("systems", {}).values():
        system["generation"] = {
            key: value for key, value in system["generation"].items() if key not in _WHERE
        }
    if "validation" in config and not scores_answers(stage):
        # Not read; the default that it had when the key was made.
        config["validation"]["metric"] = config["validation"]["metric"] or "bleu"
    if "generation" in config and config["generation"]["num_iterations"] is None:
        config["generation"]["num_iterations"] = _USUAL_ITERATIONS
    if meaning := _new_meanings(stage):
        config["meaning"] = meaning
    return config | {name: getattr(stage, name) for name in (*_REFERENCE_FIELDS, "seed")}


def _new_meanings(stage: StageConfig) -> dict[str, str]:
    """What settings mean that once meant something else: results of the older meaning are stale,
    and no other key changes."""
    meanings = {}
    sections = SECTIONS_OF_KIND[stage.kind]
    if (
        "objective" in sections
        and stage.objective.times == "low_discrepancy"
        and exports_best(stage)
        and not scores_answers(stage)
    ):
        meanings["validation_strata"] = "of all validation rows"
    if (
        "objective" in sections
        and stage.objective.weight == "elbo"
        and stage.objective.zero_masking is None
    ):
        meanings["zero_masking"] = "the mask token has probability 0"
    if stage.kind == "autoregressive" and stage.data.task == "text":
        meanings["text"] = "learnt from left to right"
    if _is_guided(stage):
        meanings["guidance"] = "the whole prompt is masked"
    if samplers := _sampler_meanings(stage):
        meanings["samplers"] = samplers
    pairs = stage.kind in ("pretrain", "adapt", "autoregressive") and tasks_of(stage) != {"text"}
    if pairs and stage.model.response_positions is None:
        meanings["response_positions"] = "from one start on, where rows leave room"
    return meanings


def _ways_to_generate(stage: StageConfig) -> list[dict[str, Any]]:
    """What is said on top of ``stage.generation``, of each way in which the stage generates."""
    if "generation" not in SECTIONS_OF_KIND[stage.kind]:
        return []
    evaluated = stage.evaluation.systems.values() if stage.kind == "evaluate" else ()
    return [{}, *(system.generation for system in evaluated)]


def _is_guided(stage: StageConfig) -> bool:
    names = ("guidance", "guidance_keeps_special")
    ways = (
        [own.get(name, getattr(stage.generation, name)) for name in names]
        for own in _ways_to_generate(stage)
    )
    return any(weight and not keeps for weight, keeps in ways)


def _sampler_meanings(stage: StageConfig) -> str:
    """Samplers of which other texts came, each with what is new."""
    found = set()
    for own in _ways_to_generate(stage):
        name = own.get("sampler", stage.generation.sampler)
        if name in _SAMPLER_RULES:
            found.add(f"{name}: {_SAMPLER_RULES[name]}")
        iterations = own.get("num_iterations", stage.generation.num_iterations)
        if name in _OWN_ITERATIONS and iterations is None:
            found.add(f"{name}: its own iterations")
    return "; ".join(sorted(found))


def identify(stage: StageConfig, needs: Mapping[str, str], data: Any) -> StageIdentity:
    """The identity of a stage whose seed is resolved.

    ``needs`` maps the earlier stages that it reads to their fingerprints; ``data`` is the JSON-able
    identity of its rows.
    """
    config = semantic_config(stage)
    content = {
        "format": FORMAT,
        "kind": stage.kind,
        "config": _without_stage_names(config, needs),
        "needs": sorted(needs.values()),
        "data": data,
    }
    return StageIdentity(
        fingerprint=hashlib.sha256(canonical_json(content).encode()).hexdigest(),
        kind=stage.kind,
        config=_as_read_back(config),
        needs=dict(needs),
        data=_as_read_back(data),
    )


def difference(old: StageIdentity, new: StageIdentity) -> list[Change]:
    """Every value that differs, key by key."""
    before, after = _flat(old), _flat(new)
    return [
        Change(key, before.get(key, NOT_SET), after.get(key, NOT_SET))
        for key in {**before, **after}
        if before.get(key, NOT_SET) != after.get(key, NOT_SET)
    ]


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that is hashed."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def plain(value: Any, *, semantic_only: bool = True) -> Any:
    """Dataclasses as dicts, recursively, by default without what is marked ``semantic=False``, and
    without what is marked ``when_set`` and is not."""
    if is_dataclass(value):
        return {
            item.name: plain(getattr(value, item.name), semantic_only=semantic_only)
            for item in fields(value)
            if not semantic_only or _is_semantic(item, getattr(value, item.name))
        }
    if isinstance(value, Mapping):
        return {str(k): plain(v, semantic_only=semantic_only) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, semantic_only=semantic_only) for item in value]
    return value


def _is_semantic(item: Field[Any], value: Any) -> bool:
    if item.metadata.get("when_set"):
        factory = item.default_factory
        return bool(value != (item.default if factory is MISSING else factory()))
    return bool(item.metadata.get("semantic", True))


def _without_stage_names(config: Mapping[str, Any], needs: Mapping[str, str]) -> dict[str, Any]:
    """References to earlier stages by content, so that renaming a stage changes no key."""

    def content(reference: Any) -> Any:
        return {"stage": needs[reference]} if reference in needs else reference

    keyed = dict(config)
    for name in _REFERENCE_FIELDS:
        keyed[name] = content(keyed[name])
    if "data" in keyed:
        places = {
            place: [
                {**source, "stage": content(source["stage"])} if "stage" in source else source
                for source in keyed["data"][place]
            ]
            for place in ("train", "validation")
            if place in keyed["data"]
        }
        keyed["data"] = {**keyed["data"], **places}
    if "evaluation" in keyed:
        systems = keyed["evaluation"]["systems"]
        renamed = {key: {**row, "model": content(row["model"])} for key, row in systems.items()}
        keyed["evaluation"] = {**keyed["evaluation"], "systems": renamed}
    return keyed


def _as_read_back(value: Any) -> Any:
    """As JSON gives it back (tuples are lists), so that old and new compare equal."""
    return json.loads(canonical_json(value))


def _flat(identity: StageIdentity) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": identity.kind}
    _flatten("", identity.config, values)
    for name, fingerprint in identity.needs.items():
        values[f"earlier stage {name}"] = fingerprint[:12]
    with_files = isinstance(identity.data, Mapping) and LOCAL_FILES in identity.data
    _flatten("" if with_files else ROWS, identity.data, values)
    return values


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            _flatten(f"{prefix}.{key}" if prefix else str(key), item, into)
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for index, item in enumerate(value):
            _flatten(f"{prefix}[{index}]", item, into)
    else:
        into[prefix] = value


def _shown(value: Any) -> str:
    if value == NOT_SET:
        return NOT_SET
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
