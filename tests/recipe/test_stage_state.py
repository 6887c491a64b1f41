import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_platform import Workplace, raising, rows_identity, small_recipe, write_checkpoint

from dlm.errors import StageFailed
from dlm.recipe.fingerprint import StageIdentity
from dlm.recipe.lock import StageLock, lock_path
from dlm.recipe.plan import plan
from dlm.recipe.state import StageState, inspect_stage


def state_of(place: Workplace, stage: str = "pretrain", *, steps: int = 4) -> StageState:
    planned = plan(small_recipe(steps=steps), place.run_dir, data_identity=rows_identity)
    return next(item.state for item in planned if item.job.name == stage)


def interrupted(place: Workplace) -> None:
    place.kinds.interrupt["pretrain"] = raising(KeyboardInterrupt())
    assert place.run() == 130


def test_nothing_there_is_missing(place: Workplace) -> None:
    assert state_of(place) == StageState("missing", "not started")


def test_checkpoints_without_manifest_are_partial(place: Workplace) -> None:
    interrupted(place)
    state = state_of(place)
    assert state.name == "partial"
    assert state.reason == "has checkpoint step=2, step 2 of 4"


def test_a_manifest_with_its_export_is_done(place: Workplace) -> None:
    place.run()
    state = state_of(place)
    assert state.name == "done" and state.manifest is not None
    assert state.reason == f"finished {state.manifest.finished}"


def test_another_configuration_is_stale_when_finished_and_when_begun(place: Workplace) -> None:
    interrupted(place)
    begun = state_of(place, steps=5)
    assert begun.name == "stale" and [str(c) for c in begun.changes] == ["train.steps: 4 -> 5"]
    place.kinds.interrupt.clear()
    place.run()
    finished = state_of(place, steps=5)
    assert finished.name == "stale" and [str(c) for c in finished.changes] == [
        "train.steps: 4 -> 5"
    ]


def test_a_live_lock_is_running(place: Workplace) -> None:
    with StageLock(lock_path(place.run_dir, "pretrain"), print):
        state = state_of(place)
    assert state.name == "running" and "works on it" in state.reason


def test_a_failure_is_failed_with_its_message(place: Workplace) -> None:
    place.kinds.interrupt["pretrain"] = raising(StageFailed("loss is nan"))
    place.run()
    state = state_of(place)
    assert state.name == "failed" and "StageFailed: loss is nan" in state.reason
    assert "has checkpoint step=2" in state.reason


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_manifest_is_not_done_and_said_so(place: Workplace, content: str) -> None:
    place.run()
    (place.directory("pretrain") / "manifest.json").write_text(content)
    state = state_of(place)
    assert state.name == "partial"
    assert "not done, because" in state.reason and "manifest.json" in state.reason


@pytest.mark.parametrize("damage", ["missing", "has 3 bytes in place of"])
def test_a_damaged_export_is_not_done_and_said_so(place: Workplace, damage: str) -> None:
    place.run()
    model = place.directory("pretrain") / "export" / "model.txt"
    model.unlink() if damage == "missing" else model.write_text("cut")
    state = state_of(place)
    assert state.name == "partial"
    assert "not done, because export/model.txt" in state.reason and damage in state.reason


def test_an_attempt_without_checkpoint_and_of_another_configuration_loses_nothing(
    place: Workplace,
) -> None:
    place.run(only="pretrain")
    directory = place.directory("pretrain")
    (directory / "manifest.json").unlink()
    (directory / "checkpoints" / "step=2").rmdir()
    assert state_of(place).name == "missing"
    other = state_of(place, steps=5)
    assert other.name == "missing" and other.set_aside


def test_checkpoints_of_unknown_configuration_are_not_resumed(place: Workplace) -> None:
    write_checkpoint(place.run_dir / "01_pretrain")
    state = state_of(place)
    assert state.name == "stale" and "started.json is missing or damaged" in state.reason


def test_checkpoints_being_written_do_not_count(place: Workplace, tmp_path: Path) -> None:
    planned = plan(place.recipe, place.run_dir, data_identity=rows_identity)
    identity: StageIdentity = planned[0].identity
    (tmp_path / "checkpoints" / "step=2.tmp").mkdir(parents=True)
    (tmp_path / "checkpoints" / "progress.json").write_text("{}")
    assert inspect_stage(tmp_path, identity, None).name == "missing"


def test_the_same_values_under_another_key_are_told_apart(place: Workplace) -> None:
    place.run()
    manifest = place.directory("pretrain") / "manifest.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "fingerprint": "0" * 64}))
    state = state_of(place)
    assert state.name == "stale" and state.reason == "finished by another version"
    assert replace(state, changes=()) == state
