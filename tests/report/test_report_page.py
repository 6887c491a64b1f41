"""What the report says of a run, in every state, and of several."""

import csv
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from made_run import EXPORTED, SAMPLES, make_run

from dlm.errors import UserError
from dlm.recipe.lock import StageLock, lock_path
from dlm.report.markdown import report_markdown, write_csv
from dlm.report.page import report_page
from dlm.report.run import read_runs
from dlm.report.run_differences import data_differences

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)> | & `x` _y_"


def page_of(*directories: Path, place: Path | None = None) -> str:
    runs = read_runs(directories)
    return report_page(runs, "made now by dlm report", [], place or directories[0] / "report.html")


class _Cells(HTMLParser):
    """What a browser would make of a page: the text and title of every cell, and all names."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[tuple[str, str]] = []
        self.names: set[str] = set()
        """Of elements and attributes."""
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {tag, *(name for name, _ in attrs)}
        if tag == "td":
            self._inside = True
            self.cells.append(("", dict(attrs).get("title") or ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._inside:
            text, title = self.cells[-1]
            self.cells[-1] = (text + data, title)


def cells_of(page: str) -> list[tuple[str, str]]:
    parser = _Cells()
    parser.feed(page)
    return parser.cells


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "made")


def test_a_finished_run_is_told_with_its_stages_lineage_and_versions(run: Path) -> None:
    page = page_of(run)
    assert "<title>made: report</title>" in page and '<span class="badge done">done' in page
    cells = cells_of(page)
    key = json.loads((run / "02_pretrain" / "manifest.json").read_text())["fingerprint"]
    assert (f"pretrain {key[:8]}", "03_adapt/manifest.json: needs") in cells
    assert ("1 min 23 s", "03_adapt/manifest.json: seconds") in cells
    assert ("train_rows 28,999", "03_adapt/manifest.json: metrics") in cells
    assert (f"{EXPORTED}", "03_adapt/manifest.json: metrics.exported_step") in cells
    texts = [text for text, _ in cells]
    assert "dlm run made.yaml optim.lr=1e-4" in texts and "python 3.11.7, torch 2.13.0" in texts
    assert "accelerator cpu, devices 2, precision bf16-mixed" in texts


def test_every_number_of_a_table_names_its_file(run: Path) -> None:
    numbers = [(t, s) for t, s in cells_of(page_of(run)) if re.search(r"\d", t)]
    own = {str(number) for number in range(1, 5)} | {str(step) for step in (10, 20, 30, 40)}
    without = {text for text, source in numbers if not source} - own
    named = {"diffusion, 5 iterations", "tokenizer, pretrain, adapt, evaluate"}
    assert len(numbers) > 30 and without <= named
    for _, source in numbers:
        name = source.partition(": ")[0]
        assert not name or (run / name).is_file()


def test_curves_have_their_file_and_the_exported_step(run: Path) -> None:
    page = page_of(run)
    assert page.count("<figcaption>bleu</figcaption>") == 1
    assert page.count("<figcaption>validation loss by noise level</figcaption>") == 2
    assert f"step {EXPORTED}</span>" in page
    bars = re.findall(rf"<title>step {EXPORTED}, 1\.0: ([\d.]+)</title>", page)
    assert bars == ["7", "7"]  # 10 / 2 and 2 of the third validation
    assert "<code>03_adapt/logs/metrics.csv</code>" in page
    assert ("14.75", "03_adapt/logs/metrics.csv: validation/bleu") in cells_of(page)


def test_scores_stand_with_intervals_settings_and_oracle_rows_apart(run: Path) -> None:
    page = page_of(run)
    cells = cells_of(page)
    file = "04_evaluate/export/diffusion/numbers_en_de/metrics.json"
    assert ("21.0 [19.5, 22.2]", f"{file}: scores.bleu") in cells
    settings = (
        "kind diffusion, sampler rdm, num_iterations 10, length predicted, length_beam 3, "
        "model adapt"
    )
    assert (settings, f"{file}: generation") in cells
    assert page.count('class="hollow c0"') == 1 and page.count(">oracle length</span>") == 1
    assert "a bound, not what a user would get" in page and "nrefs:1|tok:13a" in page
    assert ("+1.0 [+0.2, +1.8]", "04_evaluate/export/comparisons.json: [0]") in cells
    assert ("significant", "04_evaluate/export/comparisons.json: [0]") in cells


def test_systems_that_differ_in_iterations_alone_are_drawn_over_work(run: Path) -> None:
    page = page_of(run)
    assert "<figcaption>numbers_en_de: bleu over iterations</figcaption>" in page
    assert (
        "<title>diffusion, 5: 20</title>" in page and "<title>diffusion, 12.5: 20</title>" in page
    )


def test_of_several_runs_a_line_over_work_is_called_as_its_run(two: list[Path]) -> None:
    page = page_of(*two)
    legend = page[page.index("bleu over iterations") :].split("</figure>")[0]
    assert "<span>a/made</span>" in legend and "<span>b/made</span>" in legend


def test_a_line_over_iterations_is_not_called_after_one_of_them(tmp_path: Path) -> None:
    systems = {
        f"{number} iterations{end}": {"num_iterations": number, "length": length}
        for number in (2, 4)
        for length, end in (("predicted", ""), ("oracle", ", oracle length"))
    }
    runs = [make_run(tmp_path / name, systems=systems) for name in "ab"]
    for page, expected in (
        (page_of(*runs), ["a", "a: oracle length", "b", "b: oracle length"]),
        (page_of(runs[0]), ["adapt", "oracle length"]),
    ):
        legend = page[page.index("bleu over iterations") :].split("</figure>")[0]
        assert re.findall(r"<span>([^<]*)</span>", legend) == expected


def test_one_number_of_iterations_is_no_curve(tmp_path: Path) -> None:
    one = {"diffusion": {"num_iterations": 10, "length": "predicted"}}
    assert "over iterations" not in page_of(make_run(tmp_path / "one", systems=one))


def test_samples_mark_what_differs_from_the_reference(run: Path) -> None:
    page = page_of(run)
    assert "<del>eine Katze</del> <ins>ein Hund</ins> schläft" in page
    assert "<code>03_adapt/samples/step=00000030.jsonl</code>" in page
    assert page.count("zwei Hunde</dd>") == 1 + 3 + 1 + 1  # reference and systems, and of adapt


def test_any_text_of_a_run_stays_text(tmp_path: Path) -> None:
    hostile = [{key: f"{HOSTILE} {key}" for key in SAMPLES[0]}]
    systems = {HOSTILE.replace("/", ""): {"num_iterations": 3, "length": "predicted"}}
    run = make_run(tmp_path / "made", samples=hostile, systems=systems)
    started = json.loads((run / "03_adapt" / "manifest.json").read_text())
    started["command"] = started["host"] = HOSTILE
    (run / "03_adapt" / "manifest.json").write_text(json.dumps(started))
    (run / "03_adapt" / "config.yaml").write_text(HOSTILE)
    with (run / "03_adapt" / "logs" / "metrics.csv").open("a") as file:
        csv.writer(file).writerow([40, f"train/{HOSTILE}", 1.0, 0])
    page = page_of(run)
    assert "onerror" in page
    parser = _Cells()
    parser.feed(page)
    assert not parser.names & {"script", "img", "onerror"}
    text = report_markdown(read_runs([run]), "now", [])
    assert "onerror" in text and "<script" not in text and "<img" not in text


def test_the_page_asks_the_network_for_nothing_and_runs_nothing(run: Path) -> None:
    page = page_of(run)
    assert not re.search(r"https?:|//[a-z]|<link|@import|url\(|src=|<script", page)
    assert "default-src 'none'; style-src 'unsafe-inline'" in page


def test_a_run_that_has_not_ended_says_how_far_it_is(tmp_path: Path) -> None:
    run = make_run(tmp_path / "made", done=3)
    (run / "03_adapt" / "manifest.json").unlink()
    (run / "03_adapt" / "checkpoints" / "step=00000020").mkdir(parents=True)
    progress = {"step": 20, "steps": 40}
    (run / "03_adapt" / "checkpoints" / "progress.json").write_text(json.dumps(progress))
    page = page_of(run)
    assert "not every stage is done (2 of 4 done)" in page
    assert "adapt: has checkpoint step=00000020, step 20 of 40" in page
    assert ("20 of 40", "03_adapt/checkpoints/progress.json: step") in cells_of(page)
    assert "<figcaption>bleu</figcaption>" in page and '<span class="badge missing">' in page


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "made", done=3)
    (run / "03_adapt" / "manifest.json").unlink()
    failure = {"time": "now", "error": "StageFailed", "message": "the loss is <nan>"}
    (run / "03_adapt" / "failure.json").write_text(json.dumps(failure))
    page = page_of(run)
    assert "a stage failed (2 of 4 done)" in page
    assert "it failed now (StageFailed: the loss is &lt;nan&gt;)" in page


def test_a_running_stage_is_shown_though_its_last_row_is_half_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "made", done=3)
    (run / "03_adapt" / "manifest.json").unlink()
    with (run / "03_adapt" / "logs" / "metrics.csv").open("a") as file:
        file.write("41,train/lo")
    with StageLock(lock_path(run, "adapt"), print):
        (read,) = read_runs([run])
        assert read.state == "running" and read.problems == []
        assert "what is below is what it has written so far" in page_of(run)


def test_a_run_that_has_not_begun_is_a_page_too(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "made", done=0))
    assert "no stage has begun (0 of 4 done)" in page and "<figure>" not in page


def test_what_cannot_be_read_is_said(run: Path) -> None:
    with (run / "03_adapt" / "logs" / "metrics.csv").open("a") as file:
        file.write("41,train/loss,nan,0\n41,train/loss,much,0\n")
    (run / "04_evaluate" / "export" / "diffusion" / "numbers_en_de" / "metrics.json").write_text(
        "{"
    )
    with (run / "03_adapt" / "samples" / "step=00000030.jsonl").open("a") as file:
        file.write("[1]\n")
    (run / "02_pretrain" / "manifest.json").write_text("{}")
    (run / "07_old").mkdir()
    other = run / "04_evaluate" / "export" / "diffusion, given lengths" / "numbers_en_de"
    values = json.loads((other / "metrics.json").read_text())
    values["scores"]["bleu"] |= {"ci95_low": float("nan"), "ci95_high": float("nan")}
    (other / "metrics.json").write_text(json.dumps(values))
    page = page_of(run)
    for text in (
        "03_adapt/logs/metrics.csv: rows that cannot be read are left out (1)",
        "metrics.json: cannot be read", "02_pretrain/manifest.json is incomplete",
        "step=00000030.jsonl: lines that cannot be read are left out (1)",
        "07_old: of no stage of recipe.yaml",
        "03_adapt: 1 values of train/loss are not finite: not drawn",
    ):  # fmt: skip
        assert text in page
    assert "22.0" in [text for text, _ in cells_of(page)]  # without resamples, no interval


def test_a_trace_of_the_run_is_linked_from_where_the_page_lies(run: Path, tmp_path: Path) -> None:
    trace = files("dlm.generation").joinpath("trace_page.html").read_text(encoding="utf-8")
    (run / "my trace.html").write_text(trace, encoding="utf-8")
    (run / "other.html").write_text("<title>mine</title>")
    assert '<a href="my%20trace.html">my trace.html</a>' in page_of(run)
    assert '<a href="made/my%20trace.html">' in page_of(run, place=tmp_path / "report.html")
    assert "other.html" not in page_of(run)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Path]]:
    changed = [{**SAMPLES[0], "hypothesis": SAMPLES[0]["reference"]}, SAMPLES[1]]
    yield [
        make_run(tmp_path / "a" / "made"),
        make_run(tmp_path / "b" / "made", shift=0.5, samples=changed),
    ]


def test_several_runs_stand_side_by_side(two: list[Path]) -> None:
    page = page_of(*two)
    assert "<title>Report: a/made, b/made</title>" in page
    assert "<span>a/made, validation</span>" in page and "<span>b/made, validation</span>" in page
    cells = cells_of(page)
    for label, score in (("a/made", "21.0 [19.5, 22.2]"), ("b/made", "21.5 [20.0, 22.8]")):
        file = f"{label}/04_evaluate/export/diffusion/numbers_en_de/metrics.json"
        assert (f"{label}: diffusion", file) in cells
        assert (score, f"{file}: scores.bleu") in cells
    assert page.count("<figcaption>bleu</figcaption>") == 1


def test_a_system_is_compared_between_runs_by_its_samples(two: list[Path]) -> None:
    cells = cells_of(page_of(*two))
    source = (
        "b/made/04_evaluate/export/diffusion/numbers_en_de/samples.jsonl and "
        "a/made/04_evaluate/export/diffusion/numbers_en_de/samples.jsonl"
    )
    (difference,) = (text for text, title in cells if title == source and "[" in text)
    assert float(difference.split()[0]) > 5


def test_versions_of_a_task_are_not_compared(two: list[Path]) -> None:
    for path in two[1].rglob("metrics.json"):
        path.write_text(path.read_text().replace('"task_version": 1', '"task_version": 2'))
    assert "version 1 of the task and version 2" in page_of(*two)


def test_rows_that_differ_between_runs_are_named(two: list[Path], tmp_path: Path) -> None:
    assert data_differences(read_runs(two)) == []
    other = make_run(tmp_path / "c" / "made", done=2, data="others")
    lines = data_differences(read_runs([two[0], other]))
    assert lines == [
        f'{name}, a/made -> c/made: rows.train: "rows of {name}" -> "others of {name}"'
        for name in ("tokenizer", "pretrain")
    ]


def test_markdown_has_the_tables_of_the_page(run: Path) -> None:
    text = report_markdown(read_runs([run]), "made now", [])
    assert "- made: recipe made, **done**, 4 of 4 stages done" in text
    assert "| diffusion | 21.0 [19.5, 22.2] | 2 | 25.0 | 4 | kind diffusion, sampler rdm," in text
    assert "| 30 | 3 | 14.75 | exported |" in text


def test_csv_has_every_logged_value_and_score(run: Path, tmp_path: Path) -> None:
    write_csv(read_runs([run]), tmp_path / "csv")
    rows = list(csv.DictReader((tmp_path / "csv" / "curves.csv").open()))
    logged = sum(len(p.read_text().splitlines()) - 1 for p in run.rglob("metrics.csv"))
    assert len(rows) == logged
    assert {"run": "made", "stage": "adapt", "metric": "validation/bleu", "step": "30",
            "value": "14.75", "source": "03_adapt/logs/metrics.csv"} in rows  # fmt: skip
    scores = list(csv.DictReader((tmp_path / "csv" / "scores.csv").open()))
    assert [row["score"] for row in scores] == ["20.0", "21.0", "22.0"] or len(scores) == 3
    assert {row["ci95_low"] for row in scores} == {"18.5", "19.5", "20.5"}


def test_a_directory_without_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recipe\.yaml"):
        read_runs([tmp_path])
