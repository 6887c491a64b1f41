"""Models and data from outside of the recipe: what they contain, and what is not pinned."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from dlm.config.checks.every_stage import reads
from dlm.config.references import stage_references
from dlm.config.schema import StageConfig
from dlm.errors import UserError
from dlm.places import expanded

_TOKENIZER_FILES = ("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*",
                    "merges.txt", "*.model")  # fmt: skip
_MODEL_FILES = ("*.safetensors", "config.json", "dlm.json", "*.py", *_TOKENIZER_FILES)


def outside_models(stage: StageConfig, stages: Collection[str]) -> list[tuple[str, str]]:
    """(key, directory or hub name) of every model and tokenizer that is no stage of the recipe."""
    found = stage_references(stage)
    if reads(stage.kind, "model") and stage.model.pretrained and stage.init_from is None:
        found.append(("model.pretrained", stage.model.pretrained))
    return [(key, value) for key, value in found if value not in stages]


def directory_contents(stage: StageConfig, stages: Collection[str]) -> dict[str, Any]:
    """Key -> file -> sha256, for every local directory that a stage starts from, and key -> sha256
    for the files whose tokens it keeps.

    Raises:
        UserError: A file cannot be read.
    """
    from dlm.data.sources import file_sha256

    contents: dict[str, Any] = {}
    for key, value in outside_models(stage, stages):
        directory = expanded(value)
        if directory.is_dir():
            patterns = _TOKENIZER_FILES if key == "tokenizer" else _MODEL_FILES
            files = {path for pattern in patterns for path in directory.glob(pattern)}
            contents[key] = {path.name: file_sha256(path) for path in sorted(files)}
    extra = stage.model.vocabulary.extra if reads(stage.kind, "model") else []
    for number, name in enumerate(extra):
        path = Path(stage.data.root or "") / name
        if not path.is_file():
            raise UserError(f"model.vocabulary.extra: there is no file {path}")
        contents[f"model.vocabulary.extra[{number}]"] = file_sha256(path)
    return contents


def unpinned(working: Sequence[StageConfig], stages: Collection[str]) -> str | None:
    """One line that names what these stages take from the hub without a revision."""
    models = [name for stage in working for name in _unpinned_models(stage, stages)]
    rows = [name for stage in working for name in _unpinned_data(stage)]
    named = [("model", models), ("data set", rows)]
    parts = [f"{what} {name}" for what, names in named for name in dict.fromkeys(names)]
    if not parts:
        return None
    return (
        f"not pinned: {', '.join(parts)} may change on the hub without making a stage stale; set "
        "`revision` (of the model section, or of the source) to a commit, or use a local copy"
    )


def _unpinned_models(stage: StageConfig, stages: Collection[str]) -> Iterator[str]:
    for key, value in outside_models(stage, stages):
        named = key in ("init_from", "model.pretrained") and reads(stage.kind, "model")
        pinned = named and stage.model.revision is not None
        if not expanded(value).is_dir() and not pinned:
            yield value


def _unpinned_data(stage: StageConfig) -> Iterator[str]:
    from dlm.evaluation.tasks import load_task
    from dlm.training.sources import build_sources

    if stage.kind == "evaluate":
        sources = [load_task(name).locate(stage.data.root) for name in stage.evaluation.tasks]
    else:
        sources = [source for group in build_sources(stage) for source in group]
    for source in sources:
        if source.hub is not None and source.revision is None:
            yield source.hub
