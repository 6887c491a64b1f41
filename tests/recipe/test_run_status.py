import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_platform import Workplace, raising

from dlm.errors import UserError
from dlm.recipe.lock import StageLock, lock_path
from dlm.recipe.manifest import read_manifest
from dlm.recipe.stage_time import StageTime, seconds_so_far
from dlm.recipe.status import render_status, status
from dlm.training.job import StageJob


def test_status_tells_state_progress_and_metrics(place: Workplace) -> None:
    place.kinds.interrupt["adapt"] = raising(KeyboardInterrupt())
    place.run()
    pretrain, adapt, twin = status(place.run_dir)
    assert (pretrain["state"], pretrain["metrics"]["bleu"]) == ("done", 31.25)
    assert (adapt["state"], adapt["step"], adapt["steps"]) == ("partial", 2, 4)
    assert (twin["state"], twin["step"]) == ("missing", None)


def test_the_time_of_a_stage_is_that_of_all_its_attempts(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def works_and_stops(job: StageJob) -> None:
        now[0] += 1000
        raise KeyboardInterrupt

    place.kinds.interrupt["adapt"] = works_and_stops
    assert place.run() == 130
    assert [row["seconds"] for row in status(place.run_dir)] == [0, 1000, None]
    assert place.run() == 130
    assert "33 min 20 s" in render_status(place.run_dir, as_json=False)
    place.kinds.interrupt["adapt"] = lambda job: now.__setitem__(0, now[0] + 500)
    assert place.run() == 0
    assert [row["seconds"] for row in status(place.run_dir)] == [0, 2500, 0]
    manifest = read_manifest(place.directory("adapt"))
    assert manifest is not None and (manifest.seconds, manifest.attempts) == (2500, 3)
    assert place.run(force=["adapt"]) == 0
    assert status(place.run_dir)[1]["seconds"] == 500, "what is begun anew has no earlier attempts"


def test_the_time_of_an_attempt_that_is_killed_is_kept_while_it_runs(tmp_path: Path) -> None:
    with StageTime(tmp_path, attempt=1, every_s=0.01) as spent:
        deadline = time.monotonic() + 10
        while not seconds_so_far(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
        kept = seconds_so_far(tmp_path)
        assert kept and kept <= spent.seconds
    assert StageTime(tmp_path, attempt=2).seconds >= kept
    assert StageTime(tmp_path, attempt=1).seconds < kept + 10
    (tmp_path / "time.json").write_text("{")
    assert seconds_so_far(tmp_path) is None


def test_status_names_a_running_stage(place: Workplace) -> None:
    place.run()
    with StageLock(lock_path(place.run_dir, "twin"), print):
        assert status(place.run_dir)[2]["state"] == "running"


def test_status_knows_a_finished_stage_whose_origin_is_gone(place: Workplace) -> None:
    place.run()
    place.directory("pretrain").rename(place.run_dir / "elsewhere")
    assert [row["state"] for row in status(place.run_dir)] == ["missing", "done", "done"]


def test_status_is_rendered_for_people_and_for_programs(place: Workplace) -> None:
    place.kinds.interrupt["adapt"] = raising(KeyboardInterrupt())
    place.run()
    text = render_status(place.run_dir, as_json=False)
    assert "partial 2/4" in text and "adapt: has checkpoint step=2, step 2 of 4" in text
    values = json.loads(render_status(place.run_dir, as_json=True))
    assert [row["stage"] for row in values["stages"]] == ["pretrain", "adapt", "twin"]


def test_a_directory_without_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recipe\.yaml"):
        status(tmp_path)


def test_planning_and_status_do_not_import_torch() -> None:
    code = "import sys, dlm.recipe.runner, dlm.recipe.status; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
