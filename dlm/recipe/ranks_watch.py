"""The processes of a distributed job watch each other: when one dies, all end, and say why.

Lightning's launcher kills rank 0 as soon as one of the ranks that it started has failed, whether it
was about to say so or not; and a rank whose partner is gone may wait for it for half an hour.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from dlm.errors import DlmError, StageFailed
from dlm.process import STOP_SIGNALS
from dlm.recipe.endings import leave_exit_code
from dlm.recipe.state import write_failure
from dlm.training.job import StageJob

LEADER_VARIABLE = "DLM_LEADER"
"""Set by rank 0, to its process id, for the ranks that it starts."""
POLL_S = 0.5
GRACE_S = 10.0
"""How long a rank that may be stuck in a collective operation has to end by itself."""
_REPORT_WAIT_S = 3.0
"""A connection breaks before its process is seen to be gone; and torchrun's request to stop the
others follows."""
_AGAIN = "what was saved is kept: run the same command again"
_LOST = re.compile(
    r"gloo.*(closed by peer|reset by peer|broken pipe|timed? ?out|unreachable)"
    r"|nccl.*(remote process exited|remote error|timed? ?out|aborted)",
    re.IGNORECASE | re.DOTALL,
)
"""How the communication libraries say that another rank is gone or silent."""


class RankLost(StageFailed):
    """Another rank is gone or silent."""


class LeaderGone(StageFailed):
    """Rank 0, which started this rank, is gone."""


class LaunchedRanks:
    """Rank 0's watch over the ranks that it started, from the stage that started them on; and what
    every rank makes of a broken connection."""

    def __init__(self, farewell: Callable[[BaseException], None]) -> None:
        """``farewell`` says on stderr why the run ends, where the main thread cannot."""
        self.farewell = farewell
        self._processes: Sequence[subprocess.Popen[Any]] = ()
        self._stage: StageJob | None = None

    @contextmanager
    def watched(self, job: StageJob) -> Iterator[None]:
        """While a stage trains: our watch in place of Lightning's.

        Raises:
            StageFailed: A rank was killed or failed, and so this one cannot go on.
        """
        launcher: Any = import_module("lightning.pytorch.strategies.launchers.subprocess_script")
        theirs, launcher._launch_process_observer = launcher._launch_process_observer, self._begin
        self._stage = job
        try:
            yield
        except Exception as error:
            # It may have come up within a save, which says first that it could not be written.
            lost = error.__cause__ if isinstance(error, DlmError) else error
            if lost is None or not is_lost(lost):
                raise
            with _undisturbed():
                failed = self._failed(within_s=_REPORT_WAIT_S)
            raise failed or RankLost(lost_text(job, lost)) from error
        finally:
            self._stage = None
            launcher._launch_process_observer = theirs

    def _begin(self, processes: Sequence[subprocess.Popen[Any]]) -> None:
        self._processes = processes
        threading.Thread(target=self._watch, name="launched-ranks", daemon=True).start()

    def _watch(self) -> None:
        while (error := self._failed()) is None:
            time.sleep(POLL_S)
        time.sleep(GRACE_S)
        if self._stage is not None:  # the main thread is stuck
            error = self._failed() or error  # the cause may be seen after what followed from it
            for process in self._processes:
                process.kill()
            with suppress(OSError):
                write_failure(self._stage, error, None)
            self.farewell(error)
            os._exit(leave_exit_code(error.exit_code))

    def _failed(self, *, within_s: float = 0.0) -> StageFailed | None:
        """The error of a rank that was killed or failed, if one is within this time."""
        deadline = time.monotonic() + within_s
        while self._stage is None or (found := self._found(self._stage)) is None:
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        return found

    def _found(self, job: StageJob) -> StageFailed | None:
        codes = [(rank, process.poll()) for rank, process in enumerate(self._processes, start=1)]
        failed = [(rank, code) for rank, code in codes if code]
        if not failed:
            return None
        # The one that was killed is the cause; others have failed for want of it.
        rank, code = min(failed, key=lambda entry: entry[1])
        about = f"rank {rank} of stage {job.name}"
        if code > 0:
            place = job.directory / "logs" / f"failure-rank{rank}.txt"
            why = f": see {place}" if place.exists() else ""
            return StageFailed(f"{about} ended with exit code {code}{why}; {_AGAIN}")
        name = signal.Signals(-code).name
        memory = ", as the system does where memory runs out" * (name == "SIGKILL")
        return StageFailed(f"{about} was killed by {name}{memory}; {_AGAIN}")


@contextmanager
def leader_watched(farewell: Callable[[BaseException], None]) -> Iterator[None]:
    """In a rank that rank 0 started: end when rank 0 is gone, be it from within a collective.

    Raises:
        LeaderGone: Rank 0 is gone.
    """
    leader = int(os.environ.get(LEADER_VARIABLE) or 0)
    if not leader:
        yield
        return
    over = threading.Event()
    gone = LeaderGone(f"rank 0 (process {leader}) was killed or ended; {_AGAIN}")

    def watch() -> None:
        while os.getppid() == leader:  # an orphan is given another parent
            if over.wait(POLL_S):
                return
        if not over.wait(GRACE_S):
            farewell(gone)
            os._exit(gone.exit_code)

    threading.Thread(target=watch, name="leader", daemon=True).start()
    try:
        yield
    except RankLost as error:
        deadline = time.monotonic() + _REPORT_WAIT_S
        while time.monotonic() < deadline:
            if os.getppid() != leader:
                raise gone from error
            time.sleep(0.05)
        raise
    finally:
        over.set()


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another rank is gone."""
    return isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


def lost_text(job: StageJob, error: BaseException) -> str:
    """What is said of it where nobody knows more."""
    logs = job.directory / "logs"
    return (
        f"stage {job.name} lost another rank, which was killed, failed, or was silent for longer "
        f"than hardware.timeout_s: its own output, or {logs}/failure-rank*.txt, says why; {_AGAIN} "
        f"({str(error).partition(chr(10))[0]})"
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no request to stop, which a launcher sends now, cut short what is to be said."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {sent: signal.signal(sent, signal.SIG_IGN) for sent in STOP_SIGNALS}
    try:
        yield
    finally:
        for sent, handler in previous.items():
            signal.signal(sent, handler)
