"""A small run directory made by hand: a chain with curves, samples and scores, without training."""

import csv
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dlm.config.loading import load_recipe, resolved_yaml
from dlm.config.references import required_stages
from dlm.config.schema import RecipeConfig
from dlm.files import write_json
from dlm.recipe.fingerprint import StageIdentity, identify
from dlm.recipe.manifest import Manifest, write_manifest
from dlm.recipe.plan import resolved_stage

RECIPE = """
name: made
description: made by hand
train: {steps: 40}
validation: {metric: bleu}
data: {train: [{generator: number_pairs, count: 8}]}
stages:
  tokenizer: {kind: tokenizer}
  pretrain: {kind: pretrain, tokenizer: tokenizer}
  adapt: {kind: adapt, init_from: pretrain}
  evaluate:
    kind: evaluate
    evaluation:
      systems: {diffusion: {model: adapt}}
      tasks: [numbers_en_de]
"""
STEPS = (10, 20, 30, 40)
EXPORTED = 30
SAMPLES = [
    {
        "source": "a cat sleeps on the sofa",
        "reference": "eine Katze schläft auf dem Sofa",
        "hypothesis": "ein Hund schläft auf dem Sofa",
    },
    {"source": "two dogs", "reference": "zwei Hunde", "hypothesis": "zwei Hunde"},
]
SYSTEMS: dict[str, dict[str, Any]] = {
    "diffusion, 5 iterations": {"num_iterations": 5, "length": "predicted", "length_beam": 3},
    "diffusion": {"num_iterations": 10, "length": "predicted", "length_beam": 3},
    "diffusion, given lengths": {"num_iterations": 10, "length": "oracle"},
}


def make_run(
    directory: Path,
    *,
    done: int = 4,
    data: str = "rows",
    shift: float = 0.0,
    samples: Sequence[dict[str, str]] = SAMPLES,
    systems: dict[str, dict[str, Any]] = SYSTEMS,
) -> Path:
    """The first ``done`` stages are done; ``shift`` is added to losses and scores."""
    directory.mkdir(parents=True)
    recipe, text = loaded_recipe()
    (directory / "recipe.yaml").write_text(text, encoding="utf-8")
    keys: dict[str, str] = {}
    for number, name in enumerate(list(recipe.stages)[:done], start=1):
        config = resolved_stage(recipe, name)
        needs = {other: keys[other] for other in required_stages(name, config, recipe)}
        identity = identify(config, needs, {"train": f"{data} of {name}"})
        keys[name] = identity.fingerprint
        stage = directory / f"{number:02d}_{name}"
        write_begun(stage, name, identity)
        metrics: dict[str, Any] = {"texts": 8}
        if name in ("pretrain", "adapt"):
            metrics = {"steps": 40, "exported_step": EXPORTED, "train_rows": 28999}
            write_curves(stage, shift, score=name == "adapt")
        if name == "adapt":
            write_lines(stage / "samples" / f"step={EXPORTED:08d}.jsonl", samples)
        if name == "evaluate":
            metrics = {}
            write_scores(stage, shift, samples, systems)
        write_manifest(stage, manifest(name, identity, metrics))
    return directory


@cache
def loaded_recipe() -> tuple[RecipeConfig, str]:
    """The recipe, and everything resolved; read once, for it takes most of a run's time."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "made.yaml"
        path.write_text(RECIPE, encoding="utf-8")
        recipe = load_recipe(path)
    return recipe, resolved_yaml(recipe)


def write_begun(stage: Path, name: str, identity: StageIdentity) -> None:
    """config.yaml and started.json."""
    begun = {"attempt": 2, "started": "2026-01-02T03:04:05+00:00", "host": "node7"}
    command = "dlm run made.yaml optim.lr=1e-4"
    write_json(stage / "started.json", {**identity.as_json(), **begun, "command": command})
    hardware = "hardware: {accelerator: cpu, devices: 2}\ntrain: {precision: bf16-mixed}\n"
    (stage / "config.yaml").write_text(f"kind: {name}\n{hardware}", encoding="utf-8")


def manifest(name: str, identity: StageIdentity, metrics: dict[str, Any]) -> Manifest:
    versions = {"python": "3.11.7", "torch": "2.13.0"}
    provenance = {"git_commit": "0123abcd", "versions": versions, "host": "node7",
                  "command": "dlm run made.yaml optim.lr=1e-4"}  # fmt: skip
    return Manifest("made", name, identity, metrics, (), "2026-01-02T03:04:05+00:00",
                    "2026-01-02T03:06:05+00:00", 83.25, 2, provenance)  # fmt: skip


def write_curves(stage: Path, shift: float, *, score: bool) -> None:
    rows: list[tuple[int, str, float]] = []
    for step in range(1, 41):
        rows.append((step, "train/loss", 4.0 - step / 20 + shift))
    for number, step in enumerate(STEPS):
        rows.append((step, "validation/loss", 3.5 - number / 4 + shift))
        if score:
            rows.append((step, "validation/bleu", (11.0, 12.5, 14.75, 13.0)[number]))
        for level in range(1, 11):
            rows.append(
                (step, f"validation_noise/loss_{level / 10:.1f}", level / 2 + number + shift)
            )
    path = stage / "logs" / "metrics.csv"
    path.parent.mkdir()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "metric", "value", "unix_time"])
        writer.writerows((*row, "1795552469.529") for row in rows)


def write_scores(
    stage: Path, shift: float, samples: Sequence[dict[str, str]], systems: dict[str, dict[str, Any]]
) -> None:
    for number, (name, settings) in enumerate(systems.items()):
        score = 20.0 + number + shift
        value = {"score": score, "ci95_low": score - 1.5, "ci95_high": score + 1.25,
                 "signature": "nrefs:1|tok:13a"}  # fmt: skip
        place = stage / "export" / name / "numbers_en_de"
        write_lines(place / "samples.jsonl", samples)
        generation = {"kind": "diffusion", "sampler": "rdm", **settings}
        write_json(place / "metrics.json", {
            "system": name, "model": "adapt", "task": "numbers_en_de", "task_version": 1,
            "task_kind": "generation", "few_shot": 0, "rows": len(samples),
            "generation": generation, "scores": {"bleu": value}, "network_calls": 4,
            "seconds": 2.5 * settings["num_iterations"],
        })  # fmt: skip
    pair = {"first": "diffusion", "second": "diffusion, 5 iterations", "task": "numbers_en_de",
            "metric": "bleu", "difference": 1.0, "ci95_low": 0.25, "ci95_high": 1.75,
            "significant": True, "lower_is_better": False}  # fmt: skip
    write_json(stage / "export" / "comparisons.json", [pair])


def write_lines(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
