"""Further ranks of a distributed job work, and leave locking, talking and recording to rank 0."""

import threading
import time

import pytest
from small_platform import COMMAND, FakeKinds, Workplace, raising, rows_identity

from dlm.recipe import runner
from dlm.recipe.manifest import read_manifest

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FOLLOW_POLL_S", 0.01)
    monkeypatch.setattr(runner, "STALE_AFTER_S", 0.2)


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"])
def test_a_further_rank_is_known_by_its_environment(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    assert runner.process_rank() == 0
    monkeypatch.setenv(variable, "3")
    assert runner.process_rank() == 3


def test_a_further_rank_is_silent_and_ends_when_rank_0_is_gone(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert place.run() == 3
    assert place.kinds.calls == ["pretrain"]
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in place.run_dir.iterdir()) == ["01_pretrain"]
    written = sorted(path.name for path in place.directory("pretrain").iterdir())
    assert written == ["checkpoints", "export"]


def test_a_further_rank_waits_for_each_manifest_of_rank_0(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STALE_AFTER_S", 20.0)
    seen: list[bool] = []

    class Follower(FakeKinds):
        def __call__(self, job):  # type: ignore[no-untyped-def]
            earlier = [export.parent for export in job.exports.values()]
            seen.append(all(read_manifest(directory) for directory in earlier))
            return {}

    follower = Follower()
    place.kinds.interrupt = dict.fromkeys(("pretrain", "adapt"), lambda job: time.sleep(0.2))
    planned = runner.plan(place.recipe, place.run_dir, data_identity=rows_identity, follow=True)
    further = runner.RecipeRun(place.recipe, place.run_dir, "", follower, planned)
    thread = threading.Thread(target=runner.follow, args=(further, 1))
    thread.start()
    assert place.run() == 0
    thread.join(timeout=30)
    assert not thread.is_alive() and seen == [True, True, True]


def test_a_further_rank_skips_what_is_done(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run()
    monkeypatch.setenv("RANK", "1")
    assert place.run() == 0 and place.kinds.calls == []
    monkeypatch.setenv(runner.LEADER_VARIABLE, "1")
    assert place.run(force=["twin"]) == 0 and place.kinds.calls == []


def test_a_crash_of_a_further_rank_leaves_its_own_traceback(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("RANK", "2")
    place.kinds.interrupt["pretrain"] = raising(RuntimeError("out of memory"))
    assert place.run(command=COMMAND) == 3
    place_of_traceback = place.directory("pretrain") / "logs" / "failure-rank2.txt"
    assert "out of memory" in place_of_traceback.read_text()
    assert capsys.readouterr().err == f"rank 2 of stage pretrain: see {place_of_traceback}\n"
