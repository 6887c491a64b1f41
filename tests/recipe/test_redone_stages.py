"""A stage whose input is made anew is never kept as if it were made from the new one."""

import shutil

import pytest
from small_platform import COMMAND, Workplace, raising

from dlm.errors import Preempted

Output = pytest.CaptureFixture[str]


def test_a_forced_stage_under_finished_later_ones_is_refused_and_nothing_touched(
    place: Workplace, capsys: Output
) -> None:
    place.run()
    before = place.files()
    for options in ({"force": ["pretrain"]}, {"force": ["pretrain"], "only": "pretrain"}):
        capsys.readouterr()
        assert place.run(**options) == 2
        assert place.kinds.calls == [] and place.files() == before
        error = capsys.readouterr().err
        assert "stage adapt would be mixed: done, but made from the result of pretrain" in error
        assert "add --force adapt" in error and "twin" not in error.split("continue")[0]
        assert "leave out --force pretrain: what is there stays" in error
        assert ("--only, --from or --to wider" in error) == ("only" in options)


def test_a_stage_whose_export_is_lost_is_not_redone_under_finished_later_ones(
    place: Workplace, capsys: Output
) -> None:
    place.run()
    directory = place.directory("pretrain")
    shutil.rmtree(directory / "export")
    shutil.rmtree(directory / "checkpoints")
    assert place.run() == 2 and place.kinds.calls == []
    assert f"put {directory / 'export'} back as it was" in capsys.readouterr().err
    assert place.run(force=["adapt"]) == 0 and place.kinds.calls == ["pretrain", "adapt"]


def test_a_stage_that_goes_on_from_its_own_checkpoints_is_not_made_anew(place: Workplace) -> None:
    place.run()
    (place.directory("pretrain") / "manifest.json").unlink()
    assert place.run() == 0 and place.kinds.calls == ["pretrain"]
    assert place.kinds.resumed == ["pretrain"]


def test_a_begun_later_stage_is_refused_too_and_begins_anew_when_forced(
    place: Workplace, capsys: Output
) -> None:
    place.kinds.interrupt["adapt"] = raising(KeyboardInterrupt())
    assert place.run() == 130
    place.kinds.interrupt.clear()
    assert place.run(force=["pretrain"]) == 2
    assert "stage adapt would be mixed: partial" in capsys.readouterr().err
    assert place.run(force=["pretrain", "adapt"]) == 0
    assert place.kinds.calls == ["pretrain", "adapt", "twin"] and place.kinds.resumed == []


def test_a_stop_between_forced_stages_leaves_no_old_result_behind_the_new_one(
    place: Workplace, capsys: Output
) -> None:
    place.run()
    place.kinds.interrupt["pretrain"] = raising(Preempted("saved"))
    command = [*COMMAND, "--force", "pretrain", "--force", "adapt"]
    assert place.run(force=["pretrain", "adapt"], command=command) == 75
    assert capsys.readouterr().err.splitlines()[-1] == "continue with: dlm run small.yaml"
    place.kinds.interrupt.clear()
    assert place.run() == 0
    assert place.kinds.calls == ["pretrain", "adapt"] and place.kinds.resumed == ["pretrain"]
