"""How a stage ends that does not end well: asked to stop, interrupted, failed."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from dlm.errors import DlmError, Preempted, RunInUse, RunMoved, StageFailed
from dlm.files import write_text
from dlm.process import STOP_SIGNALS, process_rank
from dlm.recipe import console
from dlm.recipe.state import write_failure
from dlm.training.job import StageJob

EXIT_CODE_VARIABLE = "DLM_EXIT_CODE_FILE"
"""Names a file for rank 0's exit code: launchers end with another rank's code, or their own."""


class _AskedToStop(BaseException):
    """No Exception, so that no library on the way catches it."""


def leave_exit_code(code: int) -> int:
    """Write the exit code where the script that launched the job looks for it; gives it back."""
    place = os.environ.get(EXIT_CODE_VARIABLE)
    if place and process_rank() == 0:
        write_text(Path(place), f"{code}\n")
    return code


@contextmanager
def stoppable(stage: str) -> Iterator[None]:
    """Turn SIGTERM and SIGUSR1 into Preempted; while a stage trains, its own handlers do more."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker process that a library forked and now ends
            os._exit(128 + signum)
        for sent in STOP_SIGNALS:  # once is enough: a second one would cut the farewell short
            signal.signal(sent, signal.SIG_IGN)
        raise _AskedToStop

    previous = {sent: signal.signal(sent, stop) for sent in STOP_SIGNALS}
    try:
        yield
    except _AskedToStop:
        raise Preempted(
            f"stage {stage} was asked to stop while it was not training; nothing of it was "
            "finished, and what it had saved is kept: run the same command again"
        ) from None
    finally:
        for sent, handler in previous.items():
            signal.signal(sent, handler)


@contextmanager
def failure_recorded(job: StageJob, label: str) -> Iterator[None]:
    """Leave failure.json for a stage that failed; an interrupted or preempted one did not."""
    try:
        yield
    except (KeyboardInterrupt, Preempted, RunInUse):
        console.say(f"{label} stopped")
        raise
    except (Exception, SystemExit) as error:
        if _was_interrupted(error):
            console.say(f"{label} stopped")
            raise KeyboardInterrupt from error
        console.say(f"{label} failed")
        if not job.directory.parent.is_dir():
            raise moved(job) from error
        explained = isinstance(error, DlmError)
        place = None if explained else console.write_traceback(job.directory, error)
        # What says the failure may fail itself, as on a full disk; the first error counts.
        with suppress(OSError):
            write_failure(job, error, place)
        if explained:
            raise
        raise StageFailed(console.unexpected_text(job, error, place)) from error


def moved(job: StageJob) -> RunMoved:
    """What is said where a stage's run directory is no longer there."""
    return RunMoved(
        f"{job.directory.parent} was moved or removed while stage {job.name} worked in it. What is "
        "saved is where the directory is now: put it back and run the same command, or run it with "
        "--run-dir and the new place"
    )


def _was_interrupted(error: BaseException) -> bool:
    """Whether it came up while Ctrl-C was being handled: Lightning turns that into exit(1), and
    where it comes while loaders are set up, its cleaning up fails in their stead."""
    met: BaseException | None = error
    while met is not None and not isinstance(met, KeyboardInterrupt):
        met = met.__context__
    return met is not None
