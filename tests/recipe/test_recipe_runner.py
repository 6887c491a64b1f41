import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_platform import COMMAND, Workplace, raising, small_recipe

from dlm.config.loading import load_recipe
from dlm.errors import Preempted, StageFailed, UserError
from dlm.files import make_folder
from dlm.recipe.lock import StageLock, lock_path
from dlm.recipe.manifest import read_manifest
from dlm.training.job import StageJob

Output = pytest.CaptureFixture[str]
CONTINUE = "continue with: dlm run small.yaml"
CORRECT = "what is done is kept: once that is corrected, the run goes on from there"


def last_line(output: Output) -> str:
    return output.readouterr().err.splitlines()[-1]


def test_a_second_run_skips_what_is_done(place: Workplace, capsys: Output) -> None:
    assert place.run() == 0
    assert place.kinds.calls == ["pretrain", "adapt", "twin"]
    before = place.files()
    capsys.readouterr()
    assert place.run() == 0
    assert place.kinds.calls == []
    output = capsys.readouterr()
    assert "[2/3] adapt: skipped, finished 20" in output.out and output.err == ""
    after = place.files()
    assert {path for path in after if after[path] != before.get(path)} <= {
        str(place.run_dir / "recipe.yaml")
    }


def test_a_run_leaves_recipe_config_and_manifest(place: Workplace, capsys: Output) -> None:
    place.run()
    assert load_recipe(place.run_dir / "recipe.yaml") == place.recipe
    directory = place.directory("adapt")
    manifest = read_manifest(directory)
    assert manifest is not None and manifest.metrics == {"loss": 0.5, "bleu": 31.25}
    assert manifest.provenance["command"] == "dlm run small.yaml"
    assert (directory / "config.yaml").read_text().startswith("kind: adapt\n")
    assert "[2/3] adapt: done in 0." in capsys.readouterr().out


def test_a_changed_value_is_refused_with_the_difference_and_nothing_touched(
    place: Workplace, capsys: Output
) -> None:
    place.run()
    before = place.files()
    capsys.readouterr()
    assert place.run(small_recipe(steps=8)) == 2
    assert place.kinds.calls == [] and place.files() == before
    error = capsys.readouterr().err
    assert "stage pretrain is stale" in error and "train.steps: 4 -> 8" in error
    assert "--force pretrain --force adapt --force twin" in error and "--run-dir" in error
    assert error.splitlines()[-1] == CORRECT


def test_another_number_of_workers_is_not_refused(place: Workplace) -> None:
    place.run()
    assert place.run(small_recipe(workers=2)) == 0
    assert place.kinds.calls == []


def test_only_runs_one_stage_and_refuses_without_what_it_needs(
    place: Workplace, capsys: Output
) -> None:
    assert place.run(only="adapt") == 2
    error = capsys.readouterr().err
    assert "needs pretrain, which is missing" in error and "--only pretrain" in error
    assert not place.run_dir.exists()
    assert place.run(only="pretrain") == 0 and place.kinds.calls == ["pretrain"]
    assert place.run(only="adapt") == 0 and place.kinds.calls == ["adapt"]


def test_from_and_to_run_a_part(place: Workplace) -> None:
    assert place.run(stop="adapt") == 0 and place.kinds.calls == ["pretrain", "adapt"]
    assert place.run(start="adapt") == 0 and place.kinds.calls == ["twin"]


def test_force_keeps_the_old_result_and_says_where(place: Workplace, capsys: Output) -> None:
    place.run()
    old = (place.directory("pretrain") / "manifest.json").read_bytes()
    capsys.readouterr()
    assert place.run(small_recipe(steps=8), force=["pretrain"], stop="pretrain") == 0
    assert place.kinds.calls == ["pretrain"] and place.kinds.resumed == []
    (kept,) = place.run_dir.glob(".trash-*/01_pretrain/manifest.json")
    assert kept.read_bytes() == old
    assert f"what was there is now in {kept.parent}" in capsys.readouterr().out
    assert place.run(small_recipe(steps=8)) == 2
    assert "earlier stage pretrain" in capsys.readouterr().out


def test_a_forced_stage_is_not_forced_again_by_the_command_that_continues(
    place: Workplace, capsys: Output
) -> None:
    place.run()
    place.kinds.interrupt["twin"] = raising(StageFailed("stopped"))
    command = [*COMMAND, "--force", "adapt", "--force=autoregressive", "--run-dir", "my runs"]
    assert place.run(force=["adapt", "autoregressive"], command=command) == 3
    assert last_line(capsys) == f"{CONTINUE} --run-dir 'my runs'"


def test_a_failed_stage_is_continued_by_the_next_run(place: Workplace, capsys: Output) -> None:
    place.kinds.interrupt["adapt"] = raising(RuntimeError("loss is nan"))
    assert place.run() == 3
    output = capsys.readouterr()
    directory = place.directory("adapt")
    assert "stage adapt failed: RuntimeError: loss is nan" in output.err
    assert str(directory / "logs" / "failure.txt") in output.err and "Traceback" not in output.err
    assert output.err.splitlines()[-1] == CONTINUE
    assert "Traceback" in (directory / "logs" / "failure.txt").read_text()
    failure = json.loads((directory / "failure.json").read_text())
    assert failure["traceback"] == "logs/failure.txt" and failure["error"] == "RuntimeError"
    place.kinds.interrupt.clear()
    assert place.run() == 0
    assert place.kinds.calls == ["adapt", "twin"] and place.kinds.resumed == ["adapt"]
    assert not (directory / "failure.json").exists()
    manifest = read_manifest(directory)
    assert manifest is not None and manifest.attempts == 2


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("row 3 is empty"), 2, "error: row 3 is empty"),
        (StageFailed("no CUDA"), 3, "error: no CUDA"),
        (Preempted("saved step 2"), 75, "preempted: saved step 2"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(1), 3, "stage pretrain failed: SystemExit: 1"),
        (OSError(errno.ENOSPC, "No space left"), 3, "the disk or your quota is full: free space"),
        (PermissionError(errno.EACCES, "denied", "x"), 3, "denied (x): allow it"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_end_has_its_exit_code_message_and_last_line(
    place: Workplace, capsys: Output, error: BaseException, code: int, message: str
) -> None:
    place.kinds.interrupt["pretrain"] = raising(error)
    assert place.run() == code
    output = capsys.readouterr()
    assert message in output.err and "Traceback" not in output.err
    assert output.err.splitlines()[-1] == (CORRECT if code == 2 else CONTINUE)
    failed = (place.directory("pretrain") / "failure.json").exists()
    assert failed == (code in (2, 3))
    assert not lock_path(place.run_dir, "pretrain").exists()


@pytest.mark.parametrize("ending", [SystemExit(1), RuntimeError("call iter() first")], ids=type)
def test_what_lightning_raises_on_ctrl_c_is_an_interruption(
    place: Workplace, ending: BaseException
) -> None:
    def stop(job: StageJob) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ending  # noqa: B904 - as there, while the interruption is handled

    place.kinds.interrupt["pretrain"] = stop
    assert place.run() == 130
    assert not (place.directory("pretrain") / "failure.json").exists()


def test_a_disk_too_full_for_the_failure_itself_is_still_explained(
    place: Workplace, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(job: StageJob) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        (job.directory / "logs").write_text("no directory can be made here")
        full()

    place.kinds.interrupt["pretrain"] = fill
    assert place.run() == 3
    error = capsys.readouterr().err
    assert "the disk or your quota is full" in error and "could not be written" in error
    assert error.splitlines()[-1] == CONTINUE


def test_a_full_disk_before_the_first_stage_is_explained(
    place: Workplace, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert place.run() == 3
    assert "the disk or your quota is full" in capsys.readouterr().err


def test_a_damaged_manifest_is_said_and_the_stage_done_again(
    place: Workplace, capsys: Output
) -> None:
    place.run()
    (place.directory("adapt") / "manifest.json").write_text("{")
    capsys.readouterr()
    assert place.run() == 0
    assert place.kinds.calls == ["adapt"]
    assert "not done, because" in capsys.readouterr().out
    assert read_manifest(place.directory("adapt")) is not None
    assert (place.directory("adapt") / "manifest.invalid.json").read_text() == "{"


def test_a_dry_run_shows_the_plan_and_writes_nothing(place: Workplace, capsys: Output) -> None:
    assert place.run(dry_run=True) == 0
    assert not place.run_dir.parent.exists()
    assert "run           02_adapt     not started" in capsys.readouterr().out
    place.run(stop="pretrain")
    before = place.files()
    assert place.run(small_recipe(steps=8), dry_run=True) == 0
    assert place.files() == before
    output = capsys.readouterr().out
    assert "REFUSE        01_pretrain" in output and "train.steps: 4 -> 8" in output


def test_a_stage_in_use_refuses_the_whole_run(place: Workplace, capsys: Output) -> None:
    with StageLock(lock_path(place.run_dir, "adapt"), print):
        assert place.run() == 4
        error = capsys.readouterr().err
        assert f"stage adapt is in use by process {os.getpid()} on " in error
        assert place.kinds.calls == []
    assert place.run() == 0


def test_an_error_of_our_own_shows_its_traceback(place: Workplace, capsys: Output) -> None:
    def broken(stage: object) -> object:
        raise ZeroDivisionError("a bug")

    assert place.run(data_identity=broken) == 3
    error = capsys.readouterr().err
    assert "Traceback" in error and error.splitlines()[-1] == CONTINUE


SLOW_RUN = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from small_platform import Workplace
place = Workplace(Path(sys.argv[1]))
def wait(job):
    print("working", flush=True)
    time.sleep(600)
place.kinds.interrupt["adapt"] = wait
place.run()
"""


def test_a_run_killed_with_sigkill_is_continued(place: Workplace, capsys: Output) -> None:
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, str(place.run_dir), str(here)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=here.parents[1],
    )
    assert process.stdout is not None
    assert any(line == "working\n" for line in process.stdout)
    assert place.run() == 4
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    capsys.readouterr()
    assert place.run() == 0
    assert place.kinds.calls == ["adapt", "twin"] and place.kinds.resumed == ["adapt"]
    assert f"took over the lock of process {process.pid}" in capsys.readouterr().out


def test_a_run_directory_moved_away_is_said_and_nothing_is_made_in_its_old_place(
    place: Workplace, capsys: Output
) -> None:
    there = place.run_dir.with_name("moved")

    def move(job: StageJob) -> None:
        place.run_dir.rename(there)
        make_folder(job.directory / "logs" / "samples")

    place.kinds.interrupt["adapt"] = move
    assert place.run() == 3
    said = capsys.readouterr().err
    assert f"error: {place.run_dir} was moved or removed while stage adapt worked in it." in said
    assert "continue with" not in said
    assert not place.run_dir.exists()
    place.kinds.interrupt.clear()
    place.run_dir = there
    lock_path(there, "adapt").unlink()  # its holder is this process, which lives
    assert place.run() == 0 and place.kinds.resumed == ["adapt"]


def test_a_folder_of_a_stage_needs_the_stage(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    make_folder(tmp_path / "stage" / "logs" / "samples")
    make_folder(tmp_path / "stage" / "logs" / "samples")
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "gone" / "logs" / "samples")
    assert not (tmp_path / "gone").exists()
