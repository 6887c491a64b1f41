import os
import sys
from pathlib import Path

import pytest
from cluster_tools import RECIPE, SBATCH, Call, FakePrograms, Outcome

from dlm.cli import main


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """`dlm WORDS` in this process."""

    def dlm(*words: str | Path) -> Outcome:
        given = list(map(str, words))
        monkeypatch.setattr(sys, "argv", ["dlm", *given])
        capsys.readouterr()
        code = main(given)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return dlm


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    """No program of a cluster but those that a test writes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return FakePrograms(folder, tmp_path / "calls.txt")


@pytest.fixture
def slurm(programs: FakePrograms) -> FakePrograms:
    """A Slurm that numbers jobs 101, 102, ..., and knows of none in its queue."""
    programs.write("sbatch", SBATCH.format(calls=programs.calls, refused="nothing-is-refused"))
    programs.write("squeue", "exit 0")
    programs.write("scancel", f'echo "scancel $*" >>{programs.calls}')
    return programs


@pytest.fixture(autouse=True)
def outside_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.endswith("RANK") or name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
