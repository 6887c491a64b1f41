"""Run systems on tasks; every score is written with the settings that made it."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dlm.distributed.share import ALONE, Share
from dlm.errors import DlmError, StageFailed, UserError
from dlm.evaluation.generated_texts import check_generation, score_generation
from dlm.evaluation.learned_scores import LEARNED
from dlm.evaluation.metrics import (
    METRICS,
    RowMetric,
    Sample,
    best_reachable,
    clusters_of,
    difference,
    exact_interval,
    interval,
    not_comparable,
    source_unchanged,
    texts_of,
)
from dlm.evaluation.multiple_choice import check_multiple_choice, score_multiple_choice
from dlm.evaluation.perplexity import check_perplexity, score_perplexity
from dlm.evaluation.progress import FILE, Progress, Told, progress_key
from dlm.evaluation.results import (
    PARTIAL,
    Result,
    read_result,
    read_samples,
    write_partial,
    write_result,
    write_samples,
)
from dlm.evaluation.scored import Scored
from dlm.evaluation.scores import SPACED, TOKENIZED
from dlm.evaluation.task_rows import TaskRows
from dlm.evaluation.words import check_spaced, check_tokenizer
from dlm.generation.lengths import settled
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings
from dlm.planning.parameters import count_parameters


def check_system(
    name: str, model: GenerativeModel, settings: GenerationSettings, tasks: Sequence[TaskRows]
) -> None:
    """Refuse a system that a task cannot be run with, before any of them is run.

    Raises:
        UserError: It names the system, the task and, where a row is to blame, the row.
    """
    for rows in tasks:
        try:
            if rows.task.kind == "multiple_choice":
                check_multiple_choice(model, rows)
            elif rows.task.kind == "perplexity":
                check_perplexity(model, rows)
            else:
                check_generation(model, rows, settings)
                if any(metric in TOKENIZED for metric in rows.task.metrics):
                    check_tokenizer(rows.task.language or "")
                for metric in set(SPACED).intersection(rows.task.metrics):
                    references = [[text] for text in rows.references]
                    check_spaced(metric, rows.task.languages.answers or "", references)
            for metric in rows.task.metrics:
                if metric in LEARNED:
                    LEARNED[metric].check()
        except UserError as error:
            raise UserError(f"system '{name}', task {rows.task.name}: {error}") from error


def evaluate_system(
    name: str,
    model_name: str,
    model: GenerativeModel,
    rows: TaskRows,
    settings: GenerationSettings,
    directory: Path,
    *,
    bootstrap_samples: int,
    share: Share = ALONE,
) -> Result:
    """Run, score and write metrics.json and samples.jsonl; a finished result is read back.

    Every rank of ``share`` gives the same result, and rank 0 writes it.
    """
    task = rows.task
    finished = share.of_first(lambda: read_result(name, task.name, directory))
    if finished is not None:
        return finished
    started = time.perf_counter()
    progress = Progress(
        share, directory / FILE, progress_key(model, rows, settings),
        done=Told(f"{task.name}, {name}"),
    )  # fmt: skip
    scored = _scored(model, rows, settings, progress)
    seconds = progress.seconds_before + time.perf_counter() - started
    failed = _add_learned(rows, scored.samples, share, directory)
    scores = _scores(rows, scored, bootstrap_samples, failed)
    metrics = {
        "system": name,
        "model": model_name,
        "task": task.name,
        "task_version": task.version,
        "task_kind": task.kind,
        "few_shot": task.shots,
        "rows": len(scored.samples),
        **_clusters(scored.samples),
        **scored.settings,
        "scores": scores,
        **scored.figures,
        "parameters": _parameters(model),
        "seconds": round(seconds, 3),
        "rows_per_second": round(len(scored.samples) / max(1e-9, seconds), 2),
    }
    result = Result(name, task.name, metrics, scored.samples)
    if failed:
        if share.first:
            write_partial(result, failed, directory)
        told = "; ".join(
            f"metric '{metric}' failed ({reason})" for metric, reason in failed.items()
        )
        raise StageFailed(
            f"system '{name}', task {task.name}: {told}. The texts are in "
            f"{directory / 'samples.jsonl'}, the other scores in {directory / PARTIAL}. Correct "
            "what failed, or leave the metric out of the task, and run the same again: no text is "
            "generated anew"
        )
    if share.first:
        write_result(result, directory)
    progress.finish()
    return result


def with_oracle_lengths(
    model: GenerativeModel, settings: GenerationSettings
) -> GenerationSettings | None:
    """The same with the lengths of the references, where lengths are predicted; else None."""
    if model.kind == "autoregressive" or settled(model, settings).length != "predicted":
        return None
    return replace(settings, length="oracle")


def oracle_name(system: str) -> str:
    """The name of a system's row with the lengths of the references."""
    return f"{system}, oracle length"


def _add_learned(
    rows: TaskRows, samples: list[Sample], share: Share, directory: Path
) -> dict[str, str]:
    """Write the scores that a model gives into the rows: nothing runs it again. Gives the metrics
    that failed, with the reason; before the first of them is asked the texts are on the disk."""
    failed: dict[str, str] = {}
    learned = [metric for metric in rows.task.metrics if metric in LEARNED]
    if not learned:
        return failed
    before = share.of_first(partial(_scored_before, samples, directory))
    if share.first:
        write_samples(rows.task.name, [s | b for s, b in zip(samples, before, strict=True)],
                      directory)  # fmt: skip
    for name in learned:
        values: list[float] | str = [own[name] for own in before if name in own]
        if len(values) < len(samples):
            values = share.of_first(partial(_learned_values, name, samples))
        if isinstance(values, str):
            failed[name] = values
            continue
        for sample, value in zip(samples, values, strict=True):
            sample[name] = value
    return failed


def _scored_before(samples: list[Sample], directory: Path) -> list[dict[str, float]]:
    """Of every row the learned scores that an attempt has left which another metric failed."""
    before = read_samples(directory)
    keys = ("source", "source_text", "input", "reference", "references", "hypothesis")
    same = len(before) == len(samples) and all(
        old.get(key) == new.get(key)
        for old, new in zip(before, samples, strict=True) for key in keys
    )  # fmt: skip
    return [{k: v for k, v in old.items() if k in LEARNED} for old in before] if same else [
        {} for _ in samples
    ]  # fmt: skip


def _learned_values(name: str, samples: list[Sample]) -> list[float] | str:
    """A learned metric's scores of the rows, or why there are none."""
    try:
        values = LEARNED[name].rows(texts_of(samples))
    except Exception as error:  # somebody else's program, which may raise anything
        return _reason(error)
    if len(values) != len(samples):
        return f"it gave {len(values)} scores for {len(samples)} rows"
    for number, value in enumerate(values, start=1):
        if not math.isfinite(value):
            return f"row {number}: its score is {value}"
    return values


def _scores(
    rows: TaskRows, scored: Scored, resamples: int, failed: dict[str, str]
) -> dict[str, Any]:
    """Every score that can be computed; ``failed`` gets the reasons of the others."""
    scores = {}
    for metric in rows.task.metrics:
        if metric not in failed:
            try:
                scores[metric] = _score(metric, rows, scored, resamples)
            except Exception as error:  # texts that took hours are kept whatever it is
                failed[metric] = _reason(error)
    return scores


def _reason(error: Exception) -> str:
    return f"{error}" if isinstance(error, DlmError) else f"{type(error).__name__}: {error}"


def compare(
    pairs: list[tuple[str, str]], results: list[Result], tasks: list[TaskRows], samples: int
) -> list[dict[str, Any]]:
    """Paired differences of systems on every task that both were run on."""
    by_key = {(result.system, result.task): result for result in results}
    rows: list[dict[str, Any]] = []
    for first, second in pairs:
        for task in (rows_of_task.task for rows_of_task in tasks):
            a, b = by_key.get((first, task.name)), by_key.get((second, task.name))
            if a is None or b is None:
                continue
            for metric in task.metrics:
                pair = {"first": first, "second": second, "task": task.name, "metric": metric}
                rows.append(pair | _difference(METRICS[task.kind][metric], a, b, samples))
    return rows


def _scored(
    model: GenerativeModel, rows: TaskRows, settings: GenerationSettings, share: Share
) -> Scored:
    if rows.task.kind == "multiple_choice":
        return score_multiple_choice(model, rows, share)
    if rows.task.kind == "perplexity":
        return score_perplexity(model, rows, share)
    return score_generation(model, rows, settings, share)


def _parameters(model: GenerativeModel) -> dict[str, int]:
    """Sizes of the network that answered, without its length predictor."""
    counted = count_parameters(model.backbone.network)
    return {"total": counted.total, "without_embeddings": counted.body}


def _score(name: str, rows: TaskRows, scored: Scored, resamples: int) -> dict[str, Any]:
    metric = METRICS[rows.task.kind][name]
    value: dict[str, Any] = interval(metric, scored.samples, resamples=resamples).as_dict()
    if name in scored.standard_errors:
        value["standard_error"] = scored.standard_errors[name]
    exact = exact_interval(metric, scored.samples)
    if exact is not None:
        value["clopper_pearson95"] = list(exact)
    copied = source_unchanged(metric, scored.samples)
    if copied is not None:
        value["source_unchanged"] = copied
    best = best_reachable(metric, scored.samples, scored.writable)
    if best is not None:
        value["best_reachable"] = best
    return {**value, "signature": metric.signature(scored.samples)}


def _clusters(samples: Sequence[Sample]) -> dict[str, int]:
    clusters = clusters_of(samples)
    return {"clusters": len(set(clusters))} if clusters else {}


def _difference(metric: RowMetric, a: Result, b: Result, resamples: int) -> dict[str, Any]:
    if reason := not_comparable(metric, a.samples, b.samples):
        return {"not_compared": reason}
    found = difference(metric, a.samples, b.samples, resamples=resamples)
    return {
        "difference": found.value,
        "ci95_low": found.low,
        "ci95_high": found.high,
        "significant": found.low > 0 or found.high < 0,
        "lower_is_better": metric.lower_is_better,
        "interval": found.method,
    }
