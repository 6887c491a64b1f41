"""Score tables for people: terminal and Markdown."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from dlm.evaluation.evaluate import Result

HEADER = ["task", "system", "score [95 % interval]", "generation"]


def _settings(metrics: dict[str, Any]) -> str:
    generation = metrics["generation"]
    if generation["kind"] == "autoregressive":
        return f"beam {generation['beam_size']}, penalty {generation['length_penalty']:g}"
    length = generation["length"]
    beam = ""
    if length == "predicted":
        beam = f", beam {generation['length_beam']}, {generation['rerank']} rerank"
    if length == "canvas":
        return f"{generation['num_iterations']} iterations, canvas of {generation['canvas_length']}"
    return f"{generation['num_iterations']} iterations, {length} length{beam}"


def score_rows(results: Sequence[Result]) -> list[list[str]]:
    """Task, system, main score with interval and the others, settings."""
    rows = []
    for result in sorted(results, key=lambda r: r.task):
        (main, value), *others = result.metrics["scores"].items()
        interval = f"[{value['ci95_low']:.1f}, {value['ci95_high']:.1f}]"
        shown = [f"{main} {value['score']:.1f} {interval}"]
        shown += [f"{name} {other['score']:.1f}" for name, other in others]
        rows.append([result.task, result.system, ", ".join(shown), _settings(result.metrics)])
    return rows


def score_table(results: Sequence[Result]) -> Table:
    """The table for a terminal."""
    table = Table(*HEADER, box=None, pad_edge=False)
    for row in score_rows(results):
        table.add_row(*row)
    return table


def markdown_table(results: Sequence[Result], comparisons: Sequence[dict[str, Any]]) -> str:
    """The same as Markdown, and the paired differences below."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(row) + " |" for row in score_rows(results)]
    if comparisons:
        lines += ["", *(f"- {comparison_text(row)}" for row in comparisons)]
    return "\n".join(lines) + "\n"


def comparison_text(row: dict[str, Any]) -> str:
    """One paired difference in words."""
    verdict = "significant" if row["significant"] else "not significant"
    return (
        f"{row['task']}: {row['first']} - {row['second']} = "
        f"{row['difference']:+.1f} {row['metric']} "
        f"[{row['ci95_low']:+.1f}, {row['ci95_high']:+.1f}], {verdict} at 95 % (paired bootstrap)"
    )
