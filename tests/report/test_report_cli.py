"""dlm report on the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from made_run import make_run

from dlm.cli import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "made")


def test_the_page_of_one_run_lies_in_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    assert "<title>made: report</title>" in (run / "report.html").read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"


def test_what_is_asked_for_is_written_and_nothing_else(run: Path, tmp_path: Path) -> None:
    words = ["--markdown", str(tmp_path / "r.md"), "--csv", str(tmp_path / "csv")]
    assert main(["report", str(run), *words]) == 0
    assert (tmp_path / "r.md").is_file() and (tmp_path / "csv" / "curves.csv").is_file()
    assert not (run / "report.html").exists()


def test_runs_of_other_data_are_refused_unless_allowed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other", data="others")
    words = ["report", str(run), str(other), "--output", str(tmp_path / "r.html")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert 'adapt, made -> other: rows.train: "rows of adapt" -> "others of adapt"' in error
    assert "--allow-different-data" in error and not (tmp_path / "r.html").exists()
    assert main([*words, "--allow-different-data"]) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "These runs read different data." in page and "others of adapt" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN", "RUN/../made"], "a run is named twice"),
        (["RUN", "OTHER"], "of several runs, say where: --output F.html"),
        ([f"X{number}" for number in range(9)], "9 runs; more than 8 cannot be told apart"),
        (["RUN", "--output", "RUN/d.html"], "is a directory: give it a file"),
        (["RUN", "--output", "RUN/recipe.yaml"], "the name must end in .html"),
        (["RUN", "--markdown", "RUN/r.html"], "the name must end in .md"),
        (["RUN", "--markdown", "RUN/none/r.md"], "there is no directory"),
        (["RUN", "--csv", "RUN/recipe.yaml"], "is a file: give it a directory"),
        (["RUN/none"], "is no run directory"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_remedy(
    run: Path, tmp_path: Path, words: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (run / "d.html").mkdir()
    if "OTHER" in words:
        make_run(tmp_path / "other")
    given = [w.replace("RUN", str(run)).replace("OTHER", str(tmp_path / "other")) for w in words]
    assert main(["report", *given]) == 2
    assert message in capsys.readouterr().err


def test_a_report_needs_no_torch(run: Path) -> None:
    code = (
        "import sys; from dlm.cli import main; "
        f"assert main(['report', {str(run)!r}]) == 0; "
        "print([n for n in ('torch', 'transformers', 'lightning') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
