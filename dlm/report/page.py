"""The report as one self-contained page: no network, no script, no other file."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from os.path import relpath
from pathlib import Path
from urllib.parse import quote

from dlm.report.charts import COLOURS
from dlm.report.curve_charts import Drawn, charts, stages_by_name, validation_table
from dlm.report.run import Run, Stage
from dlm.report.run_differences import run_differences
from dlm.report.samples import stage_samples, task_samples
from dlm.report.scaling_charts import scaling_charts
from dlm.report.score_tables import comparison_table, evaluations, score_table
from dlm.report.speed_charts import speed_charts
from dlm.report.stage_tables import badge, detail_table, provenance_table, stage_table
from dlm.report.study import Study, study_scores
from dlm.report.study_tables import cells_table, tables_of_scores
from dlm.report.tables import Table, sources_line, table_html

_STATES = {
    "done": "every stage is done",
    "running": "a stage is running: what is below is what it has written so far",
    "failed": "a stage failed",
    "stale": "a stage was made with another configuration than recipe.yaml says",
    "partial": "not every stage is done",
    "missing": "no stage has begun",
}


def report_page(runs: Sequence[Run], made: str, differences: Sequence[str], place: Path,
                study: Study | None = None) -> str:  # fmt: skip
    """HTML for one run, several side by side, or the ``study`` that they are the cells of.

    ``made``: when and by which command; ``differences``: of the runs' rows, where they were
    allowed; ``place``: where the page will lie, for its links.
    """
    names = ", ".join(run.label for run in runs)
    title = f"{runs[0].name}: report" if len(runs) == 1 else f"Report: {names}"
    if study is not None:
        title = f"{study.name}: report"
    sections = [
        ("study", "Study", "" if study is None else _study(study)),
        (
            "scores",
            "Scores" if study is None else "Scores of each cell",
            _scores(runs, between=study is None),
        ),
        ("samples", "Samples", _samples(runs)),
        ("stages", "Stages", _stages(runs)),
        ("curves", "Training and validation", _curves(runs)),
        ("traces", "Denoising traces", _traces(runs, place)),
        ("configuration", "Commands and configuration", _configuration(runs)),
    ]
    shown = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{head}</a>' for name, head, _ in shown)
    body = "".join(
        f'<section id="{name}"><h2>{head}</h2>{content}</section>' for name, head, content in shown
    )
    style = files("dlm.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        "<!-- Nothing is fetched or run: the page is whole, and works from a file. -->\n"
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escape(title)}</h1>{_warnings(runs, differences)}{_heads(runs)}"
        f'<p class="source">{escape(made)}</p><nav>{links}</nav></header>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _heads(runs: Sequence[Run]) -> str:
    cards = []
    for number, run in enumerate(runs):
        states = [stage.state for stage in run.stages]
        mark = "" if run.alone else f'<span class="key k{number % COLOURS}"></span>'
        problems = "".join(f"<li>{escape(problem)}</li>" for problem in run.problems)
        late = "".join(
            _late(stage) for stage in run.stages if stage.state not in ("done", "missing")
        )
        cards.append(
            f'<div class="card"><h3>{mark}{escape(run.label)} {badge(run.state)}</h3>'
            f"<p>{_STATES[run.state]} ({states.count('done')} of {len(states)} done)</p>"
            + (f"<p>{escape(run.description)}</p>" if run.description else "")
            + f"<dl><div><dt>recipe</dt><dd>{escape(run.name)}</dd></div>"
            f"<div><dt>run directory</dt><dd>{escape(str(run.directory))}</dd></div>"
            f"{_times(run)}</dl>"
            + (f'<ul class="late">{late}</ul>' if late else "")
            + (f'<h4>Not in this report</h4><ul class="late">{problems}</ul>' if problems else "")
            + "</div>"
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _late(stage: Stage) -> str:
    """Why a stage is not done."""
    text = f"{escape(stage.name)}: {escape(stage.reason)}"
    if not stage.changes:
        return f"<li>{text}</li>"
    count = len(stage.changes)
    changes = "".join(f"<li>{escape(change)}</li>" for change in stage.changes)
    return (
        f"<li><details><summary>{text} ({count} difference{'s' * (count > 1)})</summary>"
        f"<p>as it was made -&gt; as recipe.yaml says</p><ul>{changes}</ul></details></li>"
    )


def _times(run: Run) -> str:
    began = [str(s.started["started"]) for s in run.stages if s.started.get("started")]
    ended = [stage.manifest.finished for stage in run.stages if stage.manifest]
    parts = [("first attempt on record", min(began, default="")),
             ("last stage finished", max(ended, default=""))]  # fmt: skip
    return "".join(
        f"<div><dt>{name}</dt><dd>{escape(_clock(text))}</dd></div>" for name, text in parts if text
    )


def _clock(iso: str) -> str:
    return iso.replace("T", " ").replace("+00:00", " UTC")


def _warnings(runs: Sequence[Run], differences: Sequence[str]) -> str:
    if not differences:
        return ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in differences)
    head = "<strong>These runs read different data.</strong>"
    return f'<div class="warning">{head}<ul>{lines}</ul></div>'


def _stages(runs: Sequence[Run]) -> str:
    parts = []
    for run in runs:
        details = detail_table(run)
        folded = _folded(details.title, table_html(details)) if details.rows else ""
        parts.append(_titled(stage_table(run), runs) + folded)
    return "".join(parts)


def _study(study: Study) -> str:
    """The cells as a whole: scores by size and over seeds, with the charts of each task."""
    parts = [f"<p>{escape(study.description)}</p>", table_html(cells_table(study))]
    for scores in study_scores(study):
        parts += [f"<h3>{escape(scores.stage)}: {escape(scores.task)}</h3>",
                  _gallery(scaling_charts(scores))]  # fmt: skip
        for number, table in enumerate(tables_of_scores(scores)):
            head = f"<h3>{escape(table.title)}</h3>" if number else ""
            parts.append(head + table_html(table))
    return "".join(parts)


def _curves(runs: Sequence[Run]) -> str:
    if len(runs) > COLOURS:
        return (
            f'<p class="note">The curves of {len(runs)} runs cannot be told apart in one chart: '
            "<code>dlm report</code> of some of them shows theirs.</p>"
        )
    parts = []
    for name, stages in stages_by_name(runs).items():
        table = validation_table(name, stages)
        left_out = [
            f"{run.place(stage.directory)}: {count} values of {metric} are not finite: not drawn"
            for _, run, stage in stages
            for metric, count in stage.curves.left_out.items()
        ]
        notes = "".join(f'<p class="note">{escape(line)}</p>' for line in left_out)
        numbers = _folded("Validation in numbers", table_html(table)) if table else ""
        parts.append(f"<h3>{escape(name)}</h3>{_gallery(charts(stages))}{notes}{numbers}")
    return "".join(parts)


def _scores(runs: Sequence[Run], *, between: bool) -> str:
    """``between``: with the differences between runs, which of a study are told as a whole."""
    parts = []
    for stage, tasks in evaluations(runs).items():
        for task, entries in tasks.items():
            table = score_table(stage, task, entries)
            parts.append(f"<h3>{escape(table.title)}</h3>{table_html(table)}")
            parts.append(_gallery(speed_charts(task, entries)))
            if between and (apart := run_differences(stage, task, entries)):
                parts.append(f"<h3>{escape(apart.title)}</h3>{table_html(apart)}")
        if compared := comparison_table(stage, runs):
            parts.append(f"<h3>{escape(compared.title)}</h3>{table_html(compared)}")
    return "".join(parts)


def _samples(runs: Sequence[Run]) -> str:
    parts: list[str] = []
    for stage, tasks in evaluations(runs).items():
        for task, entries in tasks.items():
            if shown := task_samples(entries):
                parts.append(_folded(f"{stage}: {task}", shown, is_open=not parts))
    for name, stages in stages_by_name(runs).items():
        if shown := stage_samples(stages):
            parts.append(_folded(f"{name}: validation prompts", shown, is_open=not parts))
    if not parts:
        return ""
    legend = (
        '<p class="note">Against the reference: <ins>words that it does not have</ins>, '
        "<del>words of it that are missing</del>.</p>"
    )
    return legend + "".join(parts)


def _traces(runs: Sequence[Run], place: Path) -> str:
    links = [
        f'<li><a href="{_link(trace, place)}">{escape(run.place(trace))}</a></li>'
        for run in runs
        for trace in run.traces
    ]
    return f"<ul>{''.join(links)}</ul>" if links else ""


def _link(target: Path, place: Path) -> str:
    below = relpath(target.resolve(), place.resolve().parent)
    return escape(quote(Path(below).as_posix()))


def _configuration(runs: Sequence[Run]) -> str:
    parts = []
    for run in runs:
        parts.append(_titled(provenance_table(run), runs))
        name = run.place(run.directory / "recipe.yaml")
        parts.append(_folded(f"{name}: everything resolved", _code(run.recipe)))
        parts += [
            _folded(run.place(stage.directory / "config.yaml"), _code(stage.config))
            for stage in run.stages
            if stage.config
        ]
    return "".join(parts)


def _titled(table: Table, runs: Sequence[Run]) -> str:
    head = f"<h3>{escape(table.title)}</h3>" if len(runs) > 1 else ""
    return head + table_html(table) if table.rows else ""


def _gallery(drawn: Iterable[Drawn]) -> str:
    figures = "".join(
        f'<div class="chart-card">{one.figure}{sources_line(one.sources)}</div>' for one in drawn
    )
    return f'<div class="gallery">{figures}</div>' if figures else ""


def _folded(title: str, content: str, *, is_open: bool = False) -> str:
    return (
        f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>"
        f'<div class="inside">{content}</div></details>'
    )


def _code(text: str) -> str:
    return f'<pre class="scroll" tabindex="0">{escape(text)}</pre>'
