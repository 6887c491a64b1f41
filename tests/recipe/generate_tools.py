"""A tiny model in a directory, a recipe whose only stage writes rows with it, and a kill."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_generation import PROMPTS, tiny_model

from dlm.config.loading import load_recipe
from dlm.generation import autoregressive
from dlm.generation.model import ModelKind, write_kind
from dlm.recipe import generate_stage
from dlm.recipe.manifest import Manifest, read_manifest
from dlm.recipe.runner import run_recipe

SOURCES = [f"{prompt} {more}".strip() for more in ("", "ran", "dog") for prompt in PROMPTS]
ROWS = [{"src": source, "tgt": "ein roter fuchs", "id": n} for n, source in enumerate(SOURCES)]
"""24 rows, of which no two have the same source."""


def write_model(directory: Path, kind: ModelKind = "autoregressive", seed: int = 1) -> Path:
    """A random model as a Hugging Face directory."""
    model = tiny_model(kind, seed=seed)
    model.backbone.network.save_pretrained(directory)
    model.tokenizer.save_pretrained(directory)
    write_kind(directory, kind, "none: it is random")
    return directory


def write_rows(path: Path, rows: Sequence[dict[str, Any]] = ROWS) -> Path:
    """As JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Writer:
    """A recipe with one stage, ``distil``, in a folder of its own."""

    def __init__(self, folder: Path, model: Path, **data: Any) -> None:
        self.folder, self.run_dir = folder, folder / "run"
        folder.mkdir(parents=True, exist_ok=True)
        rows = write_rows(folder / "rows.jsonl")
        self.stage: dict[str, Any] = {
            "kind": "generate", "init_from": str(model),
            "data": {"train": [{"path": str(rows)}], **data},
            "generation": {"beam_size": 2, "max_new_tokens": 4, "batch_tokens": 150},
            "hardware": {"accelerator": "cpu", "num_threads": 1},
        }  # fmt: skip

    @property
    def recipe_file(self) -> Path:
        """The recipe as it is now."""
        path = self.folder / "writes.yaml"
        path.write_text(json.dumps({"stages": {"distil": self.stage}}), encoding="utf-8")
        return path

    def run(self, *overrides: str) -> int:
        """The exit code."""
        recipe = load_recipe(self.recipe_file, overrides)
        return run_recipe(recipe, self.run_dir, command=["dlm", "run", "writes.yaml"])

    @property
    def directory(self) -> Path:
        return self.run_dir / "01_distil"

    @property
    def file(self) -> Path:
        return self.directory / "export" / "rows.jsonl"

    @property
    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.file)

    @property
    def manifest(self) -> Manifest:
        manifest = read_manifest(self.directory)
        assert manifest is not None
        return manifest


class Calls:
    """Counts the steps of the beam search, and kills the process at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
        self.made, self.last = 0, 10**9
        extend = autoregressive._extend

        def counted(*arguments: Any) -> None:
            self.made += 1
            if self.made > self.last:
                raise KeyboardInterrupt  # in place of a kill: nothing of ours handles it
            extend(*arguments)

        monkeypatch.setattr(autoregressive, "_extend", counted)
        monkeypatch.setattr(generate_stage, "CHUNK_PROMPTS", chunk)

    def until(self, last: int) -> None:
        """From now on so many, then the end."""
        self.made, self.last = 0, last
