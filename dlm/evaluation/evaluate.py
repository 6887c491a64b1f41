"""Run systems on tasks; every score is written with the settings that made it."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm.data.encoding import encode_prompts
from dlm.errors import UserError
from dlm.evaluation.scores import SCORES, paired_difference, score
from dlm.evaluation.tasks import Task
from dlm.generation.generate import generate
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings


@dataclass(frozen=True)
class TaskRows:
    """A task with its rows read."""

    task: Task
    prompts: list[str]
    references: list[str]


@dataclass(frozen=True)
class Result:
    """One system on one task."""

    system: str
    task: str
    metrics: dict[str, Any]
    """What metrics.json holds."""
    sources: list[str]
    hypotheses: list[str]


def read_task(task: Task, *, root: str | None, limit: int | None) -> TaskRows:
    """Read a task's rows, at most ``limit``."""
    prompts, references = task.read(root, limit)
    return TaskRows(task, prompts, references)


def evaluate_system(
    name: str,
    model_name: str,
    model: GenerativeModel,
    rows: TaskRows,
    settings: GenerationSettings,
    directory: Path,
    *,
    bootstrap_samples: int,
) -> Result:
    """Generate, score and write metrics.json and samples.jsonl; a finished result is read back."""
    done = directory / "metrics.json"
    if done.exists():
        return read_result(name, rows.task.name, directory)
    check_prompts(rows, model)
    started = time.perf_counter()
    generation = generate(model, rows.prompts, settings, references=rows.references)
    seconds = time.perf_counter() - started
    hypotheses = [answer.text for answer in generation.answers]
    metrics = {
        "system": name,
        "model": model_name,
        "task": rows.task.name,
        "task_version": rows.task.version,
        "few_shot": (rows.task.few_shot or {}).get("count", 0),
        "rows": len(rows.prompts),
        "generation": {"kind": model.kind, **settings.shown(model.kind)},
        "scores": {
            metric: {
                **score(metric, hypotheses, rows.references, samples=bootstrap_samples).as_dict(),
                "signature": SCORES[metric].signature(),
            }
            for metric in rows.task.metrics
        },
        "network_calls": generation.network_calls,
        "seconds": round(seconds, 3),
        "rows_per_second": round(len(rows.prompts) / max(1e-9, seconds), 2),
    }
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "samples.jsonl").open("w", encoding="utf-8") as file:
        for prompt, reference, answer in zip(
            rows.prompts, rows.references, generation.answers, strict=True
        ):
            sample = {
                "source": prompt, "reference": reference, "hypothesis": answer.text,
                "length": answer.length, "score": round(answer.score, 6),
            }  # fmt: skip
            file.write(json.dumps(sample, ensure_ascii=False) + "\n")
    partial = directory / ".metrics.json"
    partial.write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.rename(done)
    return Result(name, rows.task.name, metrics, rows.prompts, hypotheses)


def read_result(system: str, task: str, directory: Path) -> Result:
    """A result that was written before."""
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    with (directory / "samples.jsonl").open(encoding="utf-8") as file:
        samples = [json.loads(line) for line in file]
    return Result(
        system, task, metrics, [s["source"] for s in samples], [s["hypothesis"] for s in samples]
    )


def compare(
    pairs: list[tuple[str, str]], results: list[Result], tasks: list[TaskRows], samples: int
) -> list[dict[str, Any]]:
    """Paired differences of systems on every task that both were run on."""
    by_key = {(result.system, result.task): result for result in results}
    rows: list[dict[str, Any]] = []
    for first, second in pairs:
        for task in tasks:
            a, b = by_key.get((first, task.task.name)), by_key.get((second, task.task.name))
            if a is None or b is None:
                continue
            for metric in task.task.metrics:
                difference = paired_difference(
                    metric, a.hypotheses, b.hypotheses, task.references, samples=samples
                )
                rows.append(
                    {"first": first, "second": second, "task": task.task.name, "metric": metric,
                     "difference": difference.value, "ci95_low": difference.low,
                     "ci95_high": difference.high,
                     "significant": difference.low > 0 or difference.high < 0}
                )  # fmt: skip
    return rows


def check_system(name: str, model: GenerativeModel, settings: GenerationSettings) -> None:
    """Refuse a system that could not answer, before any of them is run."""
    if model.kind != "diffusion":
        return
    try:
        settings.parts()
    except ValueError as error:
        raise UserError(f"system '{name}': {error}") from error
    if settings.length == "predicted" and model.length_predictor is None:
        raise UserError(
            f"system '{name}' has no length predictor: evaluate a `length` stage's model, or take "
            "lengths from the references (generation.length=oracle; --length oracle)"
        )


def check_prompts(rows: TaskRows, model: GenerativeModel) -> None:
    """Refuse a row whose prompt leaves no room for an answer, by its number."""
    longest = model.backbone.max_length - 2  # one token of the answer, and its end
    for number, ids in enumerate(encode_prompts(model.tokenizer, rows.prompts), start=1):
        if len(ids) > longest:
            raise UserError(
                f"task {rows.task.name}, row {number}: a prompt of {len(ids)} tokens leaves no "
                f"room for an answer in the model's {model.backbone.max_length} positions: "
                "shorten or remove the row"
            )
