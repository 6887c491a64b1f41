"""What a script does when its stage has ended: carried out by bash, with Slurm's programs faked."""

import subprocess
from pathlib import Path

import pytest
from cluster_tools import Call, FakePrograms


@pytest.fixture
def script(call: Call, recipe: Path, slurm: FakePrograms, tmp_path: Path) -> Path:
    """The script of a stage, queued in a Slurm that is not there."""
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("max_requeues: 5\nretries: 1\n")
    words = ("--cluster", cluster, "--run-dir", tmp_path / "run", "--only", "tokenizer")
    assert call("submit", recipe, *words).code == 0
    slurm.write("scontrol", f'echo "$*" >>{tmp_path}/asked')
    return tmp_path / "run" / "slurm" / "01_tokenizer.sbatch"


def ended(
    script: Path, slurm: FakePrograms, tmp_path: Path, *, rank_0: str = "", srun: int = 0,
    state: str = "RUNNING", restarts: int = 0,
) -> tuple[int, bool]:  # fmt: skip
    """(exit code, whether it was queued again) after srun and rank 0 ended so."""
    slurm.write("srun", f'[[ -n "{rank_0}" ]] && echo {rank_0} >"$DLM_EXIT_CODE_FILE"; exit {srun}')
    slurm.write("squeue", f"echo {state}")
    (tmp_path / "asked").unlink(missing_ok=True)
    variables = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
    path = f"{slurm.folder}:/usr/bin:/bin"
    done = subprocess.run(["/bin/bash", script], env={"PATH": path, **variables}, timeout=30)
    return done.returncode, (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"rank_0": "0"}, (0, False)),
        ({"rank_0": "2", "srun": 2}, (2, False)),
        ({"rank_0": "75", "srun": 75}, (75, True)),
        # srun and torchrun end with the code of another rank, or their own.
        ({"rank_0": "75", "srun": 1}, (75, True)),
        ({"rank_0": "0", "srun": 143}, (0, False)),
        ({"srun": 137}, (137, True)),
        ({"rank_0": "75", "srun": 75, "state": "COMPLETING"}, (75, False)),
        ({"rank_0": "75", "srun": 75, "restarts": 5}, (75, False)),
    ],
)
def test_a_script_is_queued_again_where_that_may_help(
    how: dict[str, int | str], expected: tuple[int, bool], script: Path, slurm: FakePrograms,
    tmp_path: Path,
) -> None:  # fmt: skip
    assert ended(script, slurm, tmp_path, **how) == expected  # type: ignore[arg-type]


def test_failures_are_tried_again_only_so_often(
    script: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    outcomes = [ended(script, slurm, tmp_path, rank_0="3", srun=3) for _ in range(3)]
    assert outcomes == [(3, True), (3, False), (3, False)]
