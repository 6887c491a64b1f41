"""Where a stage's training rows came from, how many there were, and under which licence."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dlm.config.checks.data import source_name
from dlm.config.schema import SourceConfig, StageConfig
from dlm.data.paper_sets import paper_sets
from dlm.quoting import markdown_text
from dlm.recipe.fingerprint import ROWS, plain
from dlm.recipe.manifest import Manifest

NOT_STATED = "not stated"
_RECIPES_OWN = ("path", "name")


@dataclass(frozen=True)
class RowsOrigin:
    """One source of a stage."""

    markdown: str
    """What it is: a hub data set, files, a generator; Markdown."""
    hub: str | None
    """The hub data set that was read."""
    rows: int | None
    """Rows read of it; None where only their sum is known."""
    licence: str


def rows_of(
    manifest: Manifest, configured: StageConfig | None, finished: Mapping[str, Manifest]
) -> list[RowsOrigin]:
    """The training sources of a finished stage, as its manifest has them.

    ``configured``: the stage as the recipe says it today; of a source that is still the same its
    name and licence are taken. ``finished``: the stages of the run, of which some wrote rows.
    """
    data = manifest.identity.data
    identities = (data[ROWS] if isinstance(data, Mapping) else data)[0]
    sources = manifest.identity.config["data"]["train"]
    today = configured.data.train if configured else []
    counted = manifest.metrics.get("sources", {})
    totals = (manifest.metrics.get(name) for name in ("train_rows", "texts", "prompts"))
    total = next((number for number in totals if number is not None), None)
    found = []
    for number, (identity, source) in enumerate(zip(identities, sources, strict=True)):
        config = today[number] if number < len(today) and _is(today[number], source) else None
        name = source_name(config) if config else source.get("name") or ""
        rows = counted[name]["rows"] if name in counted else total if len(sources) == 1 else None
        hub = identity.get("hub")
        writer = source.get("stage")
        text = markdown_text(_written_by(writer, finished)) if writer else _text(identity, name)
        found.append(RowsOrigin(text, hub, rows, _licence(config, source)))
    return found


def _is(config: SourceConfig, source: Mapping[str, Any]) -> bool:
    """Whether the recipe's source is the one that was read, whatever its name and place."""
    return all(value == source.get(key, value) for key, value in plain(config).items()
               if key not in _RECIPES_OWN)  # fmt: skip


def _written_by(stage: str, finished: Mapping[str, Manifest]) -> str:
    """Rows of a model: of which stage, and which model that was."""
    manifest = finished.get(stage)
    model = manifest.metrics.get("model", {}) if manifest else {}
    if "stage" in model:
        return f"written by stage {stage} with the model of stage {model['stage']}"
    return f"written by stage {stage} with the model {model.get('name', 'that it names')}"


def _text(identity: Mapping[str, Any], name: str) -> str:
    if identity.get("hub"):
        hub = identity["hub"]
        parts = [identity.get("config"), f"split {identity['split']}",
                 identity.get("revision") or "revision not pinned"]  # fmt: skip
        about = markdown_text(", ".join(filter(None, parts)))
        link = f"https://huggingface.co/datasets/{quote(hub)}"
        return f"[{markdown_text(hub)}]({link}), {about}"
    if generated := identity.get("generated"):
        seed = f"split {generated['split']}, seed {generated['seed']}"
        return markdown_text(f"generated: {generated['name']}, {seed}")
    files = identity.get("files") or [identity]
    # The last parts of a path say what it is, the first ones whose machine it was on.
    shown = "/".join(Path(name).parts[-2:]) if name else "local files"
    hashes = ", ".join(file["sha256"][:12] for file in files[:3])
    more = f" and {len(files) - 3} more files" if len(files) > 3 else ""
    return markdown_text(f"{shown} (sha256 {hashes}{more})")


def _licence(config: SourceConfig | None, source: Mapping[str, Any]) -> str:
    if config is not None and config.license:
        return config.license
    if source.get("stage"):
        return f"that of the rows and the model of stage {source['stage']}"
    if source.get("generator"):
        return "none needed: made by a program"
    listed = _listed_licences().get(source.get("hub") or "")
    return f"{listed} (as its owners say)" if listed else NOT_STATED


@cache
def _listed_licences() -> dict[str, str]:
    return {row["hub"]: row["licence"] for row in paper_sets() if "hub" in row}
