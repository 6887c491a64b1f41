import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_platform import Workplace, raising

from dlm.errors import UserError
from dlm.recipe.lock import StageLock, lock_path
from dlm.recipe.status import render_status, status


def test_status_tells_state_progress_and_metrics(place: Workplace) -> None:
    place.kinds.interrupt["adapt"] = raising(KeyboardInterrupt())
    place.run()
    pretrain, adapt, twin = status(place.run_dir)
    assert (pretrain["state"], pretrain["metrics"]["bleu"]) == ("done", 31.25)
    assert (adapt["state"], adapt["step"], adapt["steps"]) == ("partial", 2, 4)
    assert (twin["state"], twin["step"]) == ("missing", None)


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
