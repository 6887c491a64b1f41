"""The report as Markdown, and as a folder of CSV files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlm.files import write_text
from dlm.quoting import markdown_text
from dlm.report.curve_charts import curve_rows, stages_by_name, validation_table
from dlm.report.run import Run
from dlm.report.run_differences import run_differences
from dlm.report.score_tables import comparison_table, evaluations, score_rows, score_table
from dlm.report.stage_tables import detail_table, provenance_table, stage_table
from dlm.report.study import Study
from dlm.report.study_tables import study_tables
from dlm.report.tables import Table, csv_text, table_csv, table_markdown


def report_markdown(
    runs: Sequence[Run], made: str, differences: Sequence[str], study: Study | None = None
) -> str:
    """Every table of the report."""
    names = study.name if study else ", ".join(run.label for run in runs)
    parts = [f"# Report: {markdown_text(names)}\n"]
    if differences:
        lines = "\n".join(f"- {markdown_text(line)}" for line in differences)
        parts.append(f"**These runs read different data.**\n\n{lines}\n")
    for run in runs:
        done = sum(stage.state == "done" for stage in run.stages)
        parts.append(
            f"- {markdown_text(run.label)}: recipe {markdown_text(run.name)}, **{run.state}**, "
            f"{done} of {len(run.stages)} stages done"
            + "".join(f"\n  - not in this report: {markdown_text(text)}" for text in run.problems)
        )
    parts.append("")
    parts += [table_markdown(table) for table in tables(runs, study)]
    return "\n".join([*parts, markdown_text(made)]) + "\n"


def write_csv(runs: Sequence[Run], directory: Path, study: Study | None = None) -> list[Path]:
    """A file a table, all logged values in curves.csv and all scores in scores.csv."""
    written = []
    texts = [(_stem(table.name), table_csv(table)) for table in tables(runs, study)]
    texts += [("curves", csv_text(curve_rows(runs))), ("scores", csv_text(score_rows(runs)))]
    for stem, text in texts:
        path = directory / f"{stem}.csv"
        write_text(path, text)
        written.append(path)
    return written


def tables(runs: Sequence[Run], study: Study | None = None) -> Iterator[Table]:
    """The tables of the page, in its order."""
    if study is not None:
        yield from study_tables(study)
    for stage, tasks in evaluations(runs).items():
        for task, entries in tasks.items():
            yield score_table(stage, task, entries)
            if study is None and (between := run_differences(stage, task, entries)):
                yield between
        if compared := comparison_table(stage, runs):
            yield compared
    for run in runs:
        yield stage_table(run)
        if (details := detail_table(run)).rows:
            yield details
    for name, stages in stages_by_name(runs).items():
        if table := validation_table(name, stages):
            yield table
    for run in runs:
        if (table := provenance_table(run)).rows:
            yield table


def _stem(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
