"""dlm report: what runs did, as a page, as Markdown and as CSV."""

import argparse
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dlm.errors import UserError
from dlm.recipe.console import say

if TYPE_CHECKING:
    from dlm.recipe.sweep import SweepRecord


def report(options: argparse.Namespace) -> int:
    """Read the runs, whatever state they are in, and write what was asked for."""
    from dlm.files import write_text
    from dlm.report.charts import COLOURS
    from dlm.report.markdown import report_markdown, write_csv
    from dlm.report.page import report_page
    from dlm.report.run import read_runs
    from dlm.report.run_differences import data_differences
    from dlm.report.study import read_study

    directories = [Path(word) for word in options.runs]
    if len({directory.resolve() for directory in directories}) < len(directories):
        raise UserError("dlm report: a run is named twice; name each once")
    record = sweep_of(directories)
    if len(directories) > COLOURS:
        raise UserError(
            f"dlm report: {len(directories)} runs; more than {COLOURS} cannot be told apart in one "
            "chart: name fewer"
        )
    study = read_study(directories[0], record) if record else None
    runs = study.runs if study else read_runs(directories)
    output, markdown, folder = _places(options, directories)
    differences = [] if study else data_differences(runs)  # which a sweep is about, if it has any
    if differences and not options.allow_different_data:
        raise UserError(
            "these runs read different data, so their numbers are not comparable:\n  "
            + "\n  ".join(differences)
            + "\n--allow-different-data puts them side by side with a warning"
        )
    command = shlex.join(["dlm", *sys.argv[1:]])
    made = f"made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by: {command}"
    for run in runs:
        for problem in run.problems:
            say(f"note: {problem}", stderr=True)
    if output:
        write_text(output, report_page(runs, made, differences, output, study))
        say(f"report: {output}")
    if markdown:
        write_text(markdown, report_markdown(runs, made, differences, study))
        say(f"report: {markdown}")
    if folder:
        written = write_csv(runs, folder, study)
        say(f"report: {len(written)} files in {folder}")
    return 0


def sweep_of(directories: list[Path]) -> "SweepRecord | None":
    """What a sweep's directory records, None of ordinary runs.

    Raises:
        UserError: It is one of several, or none of its cells has begun.
    """
    from dlm.recipe.sweep import read_sweep

    found = {place: record for place in directories if (record := read_sweep(place)) is not None}
    if not found:
        return None
    place, record = next(iter(found.items()))
    cells = record.directories(place)
    if not cells:
        raise UserError(f"{place}: no cell of this sweep has begun: there is nothing to report")
    if len(directories) > 1:
        raise UserError(
            f"{place} holds the runs of a sweep: report it by itself, or name runs of it, such as "
            f"{cells[0]}"
        )
    return record


def _places(
    options: argparse.Namespace, directories: list[Path]
) -> tuple[Path | None, Path | None, Path | None]:
    """Where the page, the Markdown and the CSV files go; None for what is not wanted."""
    output, markdown, folder = (
        Path(word) if word else None for word in (options.output, options.markdown, options.csv)
    )
    if not (output or markdown or folder):
        if len(directories) > 1:
            raise UserError("dlm report: of several runs, say where: --output F.html, --markdown "
                            "F.md or --csv DIR")  # fmt: skip
        output = directories[0] / "report.html"
    for flag, place, suffix in (("--output", output, ".html"), ("--markdown", markdown, ".md")):
        if place is None:
            continue
        if place.suffix != suffix:  # and no recipe or log is written over
            raise UserError(f"{flag} {place}: the name must end in {suffix}")
        if place.is_dir():
            raise UserError(f"{flag} {place} is a directory: give it a file")
        if not place.absolute().parent.is_dir():
            raise UserError(f"{flag} {place}: there is no directory {place.parent}: make it first")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UserError(f"--csv {folder} is a file: give it a directory")
    return output, markdown, folder
