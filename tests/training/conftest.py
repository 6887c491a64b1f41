from pathlib import Path

import pytest
from family_tools import Finished, run_family, write_family
from resume_tools import Uninterrupted, copy_needed, directory, run, run_interrupted


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbed; `uninterrupted` carries it as far as a test needs."""
    return tmp_path_factory.mktemp("chain") / "run"


@pytest.fixture(scope="session")
def uninterrupted(chain: Path) -> Uninterrupted:
    """Stage name -> its directory in the undisturbed run."""

    def finished(stage: str) -> Path:
        if not (directory(chain, stage) / "manifest.json").exists():
            assert run(chain, stop=stage) == 0
        return directory(chain, stage)

    return finished


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="session")
def stopped_at_18(
    chain: Path, uninterrupted: Uninterrupted, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose stage pretrain was cut off at step 18; its checkpoints are of 12 and 16."""
    uninterrupted("pretrain")
    run_dir = tmp_path_factory.mktemp("stopped") / "run"
    copy_needed(chain, run_dir, "pretrain")
    run_interrupted(run_dir, "pretrain", 18)
    return run_dir


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Family of models -> the run directory of adapt, length and scores on it."""
    place = tmp_path_factory.mktemp("families")

    def run_of(family: str) -> Path:
        if not (place / family).exists():
            model = write_family(place / f"{family}-model", family)
            assert run_family(model, place / family) == 0
        return place / family

    return run_of
