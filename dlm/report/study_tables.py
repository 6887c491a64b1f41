"""A sweep as tables: every system of every cell, by size, over seeds, and what differs."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from dlm.evaluation.table import beside_text, score_digits
from dlm.recipe.console import duration
from dlm.recipe.sweep import settings_text
from dlm.report.charts import COLOURS, interval_graphic
from dlm.report.scaling_charts import laws
from dlm.report.score_tables import ORACLE_NOTE, PAIRED, Entry, difference_cells, difference_table
from dlm.report.stage_tables import badge
from dlm.report.study import RESAMPLES, Group, Scores, Study, study_scores
from dlm.report.tables import Cell, Column, Table


def study_tables(study: Study) -> Iterator[Table]:
    """Cells, then for each task scores, laws and differences."""
    yield cells_table(study)
    for scores in study_scores(study):
        yield from tables_of_scores(scores)


def tables_of_scores(scores: Scores) -> Iterator[Table]:
    """Scores first, and then what there is of laws and differences."""
    yield scores_table(scores)
    for table in (laws_table(scores), sizes_table(scores), first_system_table(scores)):
        if table is not None:
            yield table


def cells_table(study: Study) -> Table:
    """A row a cell: what it changes, and how far it is."""
    runs = {run.label: run for run in study.runs}
    rows = []
    for name, cell in study.cells.items():
        run = runs.get(name)
        settings = Cell(settings_text(cell), source="sweep.json: cells")
        if run is None:
            rows.append((Cell(name), settings, Cell("not begun"), Cell(), Cell()))
            continue
        done = [stage.manifest for stage in run.stages if stage.manifest]
        seconds = sum(manifest.seconds for manifest in done)
        told = f"{len(done)} of {len(run.stages)}"
        source = f"{name}/*/manifest.json: seconds"
        rows.append((
            Cell(name), settings, Cell(run.state, markup=badge(run.state)), Cell(told),
            Cell(duration(seconds), seconds, source),
        ))  # fmt: skip
    columns = (
        Column("cell"), Column("changes", wide=True), Column("state"),
        Column("stages done", number=True), Column("time of stages", number=True),
    )  # fmt: skip
    return Table("cells", f"Cells of {study.name}", columns, tuple(rows))


def scores_table(scores: Scores) -> Table:
    """A row a cell and system; over seeds the mean, its interval over rows, and the deviation."""
    main, several = scores.metrics[0], scores.seeds > 1
    means = {id(group): group.mean(main) for group in scores.groups}
    ends = [end for mean in means.values() for end in mean if math.isfinite(end)]
    scale = (min(ends), max(ends))
    named = any(group.name for group in scores.groups)
    columns = [
        *([Column("cell")] if named else []), Column("system", wide=True),
        Column("parameters", number=True), Column(f"{main} [95 % interval]", number=True),
        Column(f"{scale[0]:.3g} to {scale[1]:.3g}", graphic=True),
        *([Column("± over seeds", number=True), Column("seeds", wide=True)] if several else []),
        *(Column(f"{name} [95 % interval]", number=True) for name in scores.metrics[1:]),
        Column("seconds", number=True),
    ]  # fmt: skip
    rows = []
    for group in scores.groups:
        source, size = group.entries[0].source, group.size
        colour = scores.systems.index(group.system) % COLOURS
        value, low, high = means[id(group)]
        drawn = interval_graphic(value, low, high, scale, colour=colour,
                                 hollow=group.entries[0].oracle)  # fmt: skip
        seconds = [entry.metrics.get("seconds") for entry in group.entries]
        known = [second for second in seconds if second is not None]
        mean = sum(known) / len(known) if known else None
        rows.append((
            *([Cell(group.name)] if named else []), Cell(group.system, source=source),
            Cell() if size is None else Cell(f"{size:,}", size, f"{source}: parameters"),
            _score(group, main, means[id(group)]), Cell(markup=drawn),
            *(_over_seeds(group, main) if several else ()),
            *(_score(group, name, group.mean(name)) for name in scores.metrics[1:]),
            Cell() if mean is None else Cell(f"{mean:,.1f}", mean, f"{source}: seconds"),
        ))  # fmt: skip
    notes = ["Parameters without embeddings; intervals over rows, or clusters of rows."]
    if several:
        notes.append("Scores are means over seeds; ± is their standard deviation (n - 1).")
    if any(group.entries[0].oracle for group in scores.groups):
        notes.append(ORACLE_NOTE)
    return Table(f"study_{scores.stage}_{scores.task}", f"{scores.stage}: {scores.task}",
                 tuple(columns), tuple(rows), " ".join(notes))  # fmt: skip


def laws_table(scores: Scores) -> Table | None:
    """The power laws through the bounds; None where there is none."""
    rows = [
        (
            Cell(system), Cell(f"{law.exponent:.3f} [{law.exponent_low:.3f}, "
                               f"{law.exponent_high:.3f}]", law.exponent),
            Cell(f"{law.scale:.4g}", law.scale), Cell(f"{law.r_squared:.3f}", law.r_squared),
            Cell(str(len(groups)), source="; ".join(g.entries[0].source for g in groups)),
        )
        for system, groups, law in laws(scores)
    ]  # fmt: skip
    if not rows:
        return None
    columns = (Column("system", wide=True), Column("exponent [95 % interval]", number=True),
               Column("scale", number=True), Column("R²", number=True),
               Column("sizes", number=True))  # fmt: skip
    note = (
        f"{scores.metrics[0]} = scale x parameters^-exponent, by least squares in logarithms; the "
        "interval is Student's t with sizes - 2 degrees of freedom. No floor is fitted: too few "
        "sizes."
    )
    title = f"{scores.stage}: {scores.task}, power law"
    return Table(f"power_law_{scores.stage}_{scores.task}", title, columns, tuple(rows), note)


def sizes_table(scores: Scores) -> Table | None:
    """Every size minus the next smaller one, and the largest minus the smallest."""
    pairs = []
    for groups in scores.by_size.values():
        pairs += [(larger, smaller) for smaller, larger in pairwise(groups)]
        if len(groups) > 2:
            pairs.append((groups[-1], groups[0]))
    return _differences(scores, pairs, "by_size", "larger minus smaller")


def first_system_table(scores: Scores) -> Table | None:
    """Over several seeds: every system minus the first of its cell, lengths given or not alike."""
    if scores.seeds < 2:
        return None
    pairs = []
    for cell in dict.fromkeys(group.name for group in scores.groups):
        for oracle in (False, True):
            alike = [
                group for group in scores.groups
                if group.name == cell and group.entries[0].oracle == oracle
            ]  # fmt: skip
            pairs += [(group, alike[0]) for group in alike[1:]]
    return _differences(scores, pairs, "systems", "minus the first system")


def _differences(
    scores: Scores, pairs: Sequence[tuple[Group, Group]], name: str, title: str
) -> Table | None:
    if not pairs:
        return None
    main = scores.metrics[0]
    found = [
        {"task": scores.task, "metric": main, "first": first.label, "second": second.label}
        | first.minus(second, main)
        for first, second in pairs
    ]
    rows = [
        difference_cells(
            "", row, scores.systems.index(first.system) % COLOURS,
            "; ".join(_samples(entry) for g in (first, second) for entry in g.entries), found,
        )
        for (first, second), row in zip(pairs, found, strict=True)
    ]  # fmt: skip
    note = f"{PAIRED} ({RESAMPLES:,} resamples)."
    if scores.seeds > 1:
        note += " Of means over seeds: what another seed would do is not in the interval."
    return difference_table(f"{name}_{scores.stage}_{scores.task}",
                            f"{scores.stage}: {scores.task}, {title}", rows, note)  # fmt: skip


def _samples(entry: Entry) -> str:
    return entry.run.place(entry.scored.file.with_name("samples.jsonl"))


def _score(group: Group, metric: str, mean: tuple[float, float, float]) -> Cell:
    digits = score_digits(metric)
    value, low, high = mean
    text = f"{value:.{digits}f}"
    if math.isfinite(low) and math.isfinite(high):
        text += f" [{low:.{digits}f}, {high:.{digits}f}]"
    text += beside_text(metric, group.entries[0].metrics["scores"][metric])
    sources = "; ".join(entry.source for entry in group.entries)
    return Cell(text, value, f"{sources}: scores.{metric}")


def _over_seeds(group: Group, metric: str) -> tuple[Cell, Cell]:
    digits, deviation = score_digits(metric), group.deviation(metric)
    listed = ", ".join(f"{value:.{digits}f}" for value in group.values(metric))
    shown = Cell() if deviation is None else Cell(f"{deviation:.{digits}f}", deviation)
    return shown, Cell(listed)
