"""Score tables for people: terminal and Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from dlm.evaluation.metrics import Sample
from dlm.evaluation.results import Result
from dlm.evaluation.tasks import NEXT_TOKEN
from dlm.generation.empty import empty_text
from dlm.quoting import markdown_row, markdown_text

HEADER = ["task", "system", "score [95 % interval]", "settings"]
_SHOWN = 100


def settings_text(metrics: dict[str, Any]) -> str:
    """How a result came about, in a few words."""
    text = _likelihood(metrics) if "likelihood" in metrics else _generation(metrics["generation"])
    if metrics.get("unknown_tokens"):
        text += f"; {metrics['unknown_tokens']} of {metrics['tokens']} tokens unknown"
    return text


def _generation(generation: dict[str, Any]) -> str:
    if generation["kind"] == "autoregressive":
        if "temperature" in generation:
            return f"drawn at temperature {generation['temperature']:g}, seed {generation['seed']}"
        return f"beam {generation['beam_size']}, penalty {generation['length_penalty']:g}"
    number = generation["num_iterations"]
    iterations = "an iteration a token" if number is None else f"{number} iterations"
    length = generation["length"]
    beam = ""
    if length == "predicted":
        beam = f", beam {generation['length_beam']}, {generation['rerank']} rerank"
    if length == "canvas":
        return f"{iterations}, canvas of {generation['canvas_length']}"
    return f"{iterations}, {length} length{beam}"


def _likelihood(metrics: dict[str, Any]) -> str:
    likelihood = metrics["likelihood"]
    if likelihood["estimator"] == NEXT_TOKEN:
        return "next token, exact"
    text = f"{likelihood['estimator']} bound"
    if "samples" in likelihood:
        text += f", {likelihood['samples']} samples, seed {likelihood['seed']}"
    if "min_time" in likelihood:
        text += f", min_time {likelihood['min_time']:g}"
    return text


def _score(name: str, value: dict[str, Any], *, with_interval: bool) -> str:
    digits = score_digits(name)
    text = f"{name} {value['score']:.{digits}f}"
    if "standard_error" in value:
        text += f" ± {value['standard_error']:.{digits}f}"
    if with_interval:
        text += f" [{value['ci95_low']:.{digits}f}, {value['ci95_high']:.{digits}f}]"
    return text + beside_text(name, value)


def beside_text(name: str, value: Mapping[str, Any]) -> str:
    """What a score is to be seen against: that of the sources left as they are, of a rewriting, and
    that of the references themselves where the model's tokenizer loses some of their text."""
    digits = score_digits(name)
    shown = ""
    if "source_unchanged" in value:
        shown += f" (source unchanged {value['source_unchanged']:.{digits}f})"
    if "best_reachable" in value:
        shown += f" (of {value['best_reachable']:.{digits}f} that its tokenizer can write)"
    return shown


def score_digits(metric: str) -> int:
    """Decimals that a score is shown with."""
    return {"perplexity": 2, "nats_per_token": 3}.get(metric, 1)


def score_rows(results: Sequence[Result]) -> list[list[str]]:
    """Task, system, main score with interval and the others, settings.

    ± is the standard error of an estimate on the very rows; the interval is over rows.
    """
    rows = []
    for result in sorted(results, key=lambda r: r.task):
        scores = result.metrics["scores"].items()
        shown = [_score(name, value, with_interval=not n) for n, (name, value) in enumerate(scores)]
        if "chance" in result.metrics:
            shown.append(f"chance {result.metrics['chance']:.1f}")
        shown += _left_out(result.metrics)
        rows.append([result.task, result.system, ", ".join(shown), settings_text(result.metrics)])
    return rows


def _left_out(metrics: dict[str, Any]) -> list[str]:
    """What rows share, answers that could not be found, rows without one choice, rows not asked."""
    shown = []
    if count := metrics.get("clusters"):
        shown.append(f"interval over {count} clusters of rows")
    if count := metrics.get("empty_answers"):
        shown.append(empty_text(count, metrics["rows"]) + _lengths(metrics))
    if count := metrics.get("answers_without_end"):
        shown.append(f"{count} of {metrics['rows']} answers fill the canvas without an end")
    if count := metrics.get("answers_not_extracted"):
        shown.append(f"no answer found in {count} of {metrics['rows']} (wrong)")
    if count := metrics.get("equal_bounds"):
        shown.append(f"equal bounds in {count} of {metrics['rows']} (1/k for each of k choices)")
    if count := metrics.get("skipped_rows"):
        shown.append(f"{count} more rows skipped as too long")
    if count := metrics.get("references_cut"):
        shown.append(f"{count} references longer than an answer can be")
    return shown


def _lengths(metrics: Mapping[str, Any]) -> str:
    ratio = metrics.get("length_ratio")
    return "" if ratio is None else f" ({ratio:.2f} of the references' tokens)"


def score_table(results: Sequence[Result]) -> Table:
    """The table for a terminal."""
    table = Table(*HEADER, box=None, pad_edge=False)
    for row in score_rows(results):
        table.add_row(*map(Text, row))
    return table


def markdown_table(results: Sequence[Result], comparisons: Sequence[dict[str, Any]]) -> str:
    """The same as Markdown, and the paired differences below."""
    lines = [markdown_row(HEADER), "|" + "---|" * len(HEADER)]
    lines += [markdown_row(map(markdown_text, row)) for row in score_rows(results)]
    if any("likelihood" in result.metrics for result in results):
        lines += ["", "± is the standard error of the estimate; the interval is over rows."]
    if comparisons:
        lines += ["", *(f"- {markdown_text(comparison_text(row))}" for row in comparisons)]
    return "\n".join(lines) + "\n"


def comparison_text(row: dict[str, Any]) -> str:
    """One paired difference in words."""
    if "not_compared" in row:
        return (
            f"{row['task']}: {row['first']} and {row['second']} are not compared by "
            f"{row['metric']}: {row['not_compared']}"
        )
    digits = score_digits(row["metric"])
    verdict = "significant" if row["significant"] else "not significant"
    lower = "lower is better, " if row["lower_is_better"] else ""
    return (
        f"{row['task']}: {row['first']} - {row['second']} = "
        f"{row['difference']:+.{digits}f} {row['metric']} "
        f"[{row['ci95_low']:+.{digits}f}, {row['ci95_high']:+.{digits}f}], {lower}{verdict} at "
        f"95 % ({row.get('interval', 'paired bootstrap')})"
    )


def sample_text(sample: Sample) -> str:
    """One row of samples.jsonl in a line."""
    if "choices" in sample:
        equal = sample.get("equal", [sample["chosen"]])
        chosen = " = ".join(str(sample["choices"][index]) for index in equal)
        right = sample["choices"][sample["right"]]
        wrong = "" if equal == [sample["right"]] else f"  (right: {right})"
        return f"{sample['source']}  ->  {chosen}{wrong}"
    if "bound" in sample:
        text = " | ".join(part for part in (sample["source"], sample["text"]) if part)
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        return f"{shown}  ->  {sample['bound'] / sample['tokens']:.3f} nats a token"
    return f"{sample['source']}  ->  {sample['hypothesis']}"
