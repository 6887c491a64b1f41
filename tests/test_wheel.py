"""The wheel, unpacked beside the environment's libraries: all that the package reads is in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*words: str | Path, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, capture_output=True, text=True,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, without any dependency."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", ROOT, "--no-deps", "--wheel-dir", folder, folder=folder)
    (wheel,) = folder.glob("*.whl")
    run(*pip, "install", wheel, "--no-deps", "--target", folder / "site", folder=folder)
    return folder / "site"


@pytest.mark.slow
def test_every_file_of_the_package_is_in_the_wheel(unpacked: Path) -> None:
    listed = run("git", "ls-files", "dlm", "recipes", folder=ROOT).splitlines()
    wanted = {f"dlm/{name}" if name.startswith("recipes/") else name for name in listed}
    assert {name for name in wanted if not (unpacked / name).is_file()} == set()


@pytest.mark.slow
def test_the_wheel_alone_runs(unpacked: Path, tmp_path: Path) -> None:
    def python(*words: str) -> str:
        return run(sys.executable, *words, folder=tmp_path, PYTHONPATH=str(unpacked))

    assert Path(python("-c", "import dlm; print(dlm.__file__)").strip()).is_relative_to(unpacked)
    assert "quickstart" in python("-m", "dlm", "ls", "recipes")
    assert "ok" in python("-m", "dlm", "validate", "quickstart")
    assert "adapt" in python("-m", "dlm", "run", "quickstart", "--dry-run")
