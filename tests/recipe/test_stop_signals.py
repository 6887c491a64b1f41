"""A signal that asks a stage to stop while it does not train."""

import os
import signal
import time

import pytest
from small_platform import Workplace, raising

from dlm.errors import Preempted
from dlm.recipe.ranks_watch import LEADER_VARIABLE
from dlm.training.job import StageJob

Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_outside_of_training_ends_as_preempted_and_the_next_run_goes_on(
    place: Workplace, capsys: Output, sent: signal.Signals
) -> None:
    def asked(job: StageJob) -> None:
        try:
            os.kill(os.getpid(), sent)
            time.sleep(30)
        except Exception:  # as a library might
            pytest.fail("the request was swallowed")

    before = signal.getsignal(sent)
    place.kinds.interrupt["adapt"] = asked
    assert place.run() == 75
    output = capsys.readouterr()
    assert "preempted: stage adapt was asked to stop" in output.err
    assert "run the same command again" in output.err
    assert output.err.splitlines()[-1].startswith("continue with: dlm run")
    assert not (place.directory("adapt") / "failure.json").exists()
    assert signal.getsignal(sent) == before

    place.kinds.interrupt.clear()
    assert place.run() == 0
    assert place.kinds.calls == ["adapt", "twin"]


@pytest.mark.parametrize(("leader", "code"), [(None, 75), ("1", 0)])
def test_a_rank_that_rank_0_started_leaves_the_exit_code_to_it(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, leader: str | None, code: int
) -> None:
    place.kinds.interrupt["pretrain"] = raising(Preempted("stopped"))
    monkeypatch.setenv("RANK", "1")
    if leader:
        monkeypatch.setenv(LEADER_VARIABLE, leader)
    assert place.run() == code
