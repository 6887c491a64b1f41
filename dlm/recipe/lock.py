"""One process works on a stage at a time: a lock file with host, process and heartbeat."""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from dlm.errors import RunInUse
from dlm.files import make_way

HEARTBEAT_S = 5.0
"""The holder touches its lock file this often."""
_GUARD = ".guard"
STALE_AFTER_S = 120.0
"""A holder on another host that was silent for so long is taken for dead."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    pid: int
    process_start: str | None
    """Start time of the process from /proc: process ids are reused, this pair is not."""
    pid_space: str | None
    """Boot and pid namespace: process ids say something only to processes that share it."""
    since: str
    token: str
    """Unique to one taking of the lock."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def lock_path(run_dir: Path, stage: str) -> Path:
    """The stage's lock file. It lies beside the stage's directory, which may be moved aside."""
    return run_dir / ".locks" / f"{stage}.json"


def live_holder(path: Path, *, current_time: float | None = None) -> Holder | None:
    """The holder of a lock if it is alive; None for no lock, or a dead holder's."""
    holder, touched = _read(path)
    if holder is None or _is_dead(holder):
        return None
    if holder.pid_space is not None and holder.pid_space == _pid_space():
        return holder
    age_s = (time.time() if current_time is None else current_time) - touched
    return holder if age_s < STALE_AFTER_S else None


class StageLock:
    """Holds a stage while it runs.

    Entering raises RunInUse while another live process holds it; a dead one's lock is taken over
    and ``say`` is told so in one line.
    """

    def __init__(
        self, path: Path, say: Callable[[str], None], *, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self.path = path
        self._say = say
        self._heartbeat_s = heartbeat_s
        self._me = _myself()
        self._ended = threading.Event()

    def __enter__(self) -> "StageLock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        make_way(self.path.with_name(_GUARD))
        with _guard(self.path) as current_time:
            previous, _ = _read(self.path)
            holder = live_holder(self.path, current_time=current_time)
            if holder is not None:
                raise in_use(self.path, holder)
            self._write(expect_free=previous is None)
        if previous is not None:
            self._say(f"{self.path.stem}: took over the lock of {previous}, which is gone")
        threading.Thread(target=self._beat, name="stage-lock", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        # A forked child that leaves this block does not own the lock.
        if os.getpid() == self._me.pid:
            # On a full or vanished disk the lock stays, and a dead holder's lock is taken over.
            with suppress(OSError), _guard(self.path):
                if self._is_mine():
                    self.path.unlink()

    def confirm(self) -> None:
        """Raise RunInUse if another process took the lock, as after a long suspension."""
        holder, _ = _read(self.path)
        if holder is None or holder.token != self._me.token:
            raise RunInUse(
                f"{self.path} was lost to {holder or 'nobody (the file is gone)'} while this "
                "process was silent; nothing was recorded as done. Run again when that one ended"
            )

    def _write(self, *, expect_free: bool) -> None:
        content = json.dumps(vars(self._me))
        if expect_free:
            # Exclusive even where the file system knows no file locks.
            try:
                stream = self.path.open("x", encoding="utf-8")
            except FileExistsError:
                raise in_use(self.path, _read(self.path)[0]) from None
            with _gone_if_it_fails(self.path), stream:
                stream.write(content)
        else:
            temporary = self.path.with_name(f".{self.path.name}.{self._me.token}")
            with _gone_if_it_fails(temporary):
                temporary.write_text(content, encoding="utf-8")
            temporary.replace(make_way(self.path))

    def _is_mine(self) -> bool:
        holder, _ = _read(self.path)
        return holder is not None and holder.token == self._me.token

    def _beat(self) -> None:
        while not self._ended.wait(self._heartbeat_s):
            with suppress(OSError):
                if self._is_mine():
                    os.utime(self.path)


def in_use(path: Path, holder: Holder | None) -> RunInUse:
    """The refusal, with what to do about it."""
    return RunInUse(
        f"stage {path.stem} is being worked on by {holder or 'another process'}. Wait until it "
        f"ends, or stop it there; `dlm status` shows how far it is. If it is surely gone, delete "
        f"{path}"
    )


@contextmanager
def _gone_if_it_fails(path: Path) -> Iterator[None]:
    """On a full disk a lock is left empty: nobody's, and in everybody's way."""
    try:
        yield
    except OSError:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _guard(path: Path) -> Iterator[float]:
    """Let one process at a time judge and replace a lock; gives the file system's time.

    A shared file system keeps its own clock, and heartbeats are written by it.
    """
    with path.with_name(_GUARD).open("a") as stream:
        # Without file locks a free lock is still taken once; of two that replace a dead one's,
        # `confirm` refuses the loser before it records anything as done.
        with suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        os.utime(stream.name)
        yield os.fstat(stream.fileno()).st_mtime


def _read(path: Path) -> tuple[Holder | None, float]:
    """The holder and the time of its last heartbeat; an unreadable lock is somebody unknown's."""
    try:
        touched = path.stat().st_mtime
        content = "" if path.is_dir() else path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None, 0.0
    try:
        return Holder(**json.loads(content)), touched
    except (ValueError, TypeError):
        return Holder("an unknown host", 0, None, None, _clock(touched), ""), touched


def _is_dead(holder: Holder) -> bool:
    if holder.pid_space is None or holder.pid_space != _pid_space():
        return False
    if not isinstance(holder.pid, int):
        return False
    if holder.process_start is not None:
        return _process_start(holder.pid) != holder.process_start
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _myself() -> Holder:
    pid = os.getpid()
    return Holder(
        host=socket.gethostname(),
        pid=pid,
        process_start=_process_start(pid),
        pid_space=_pid_space(),
        since=_clock(time.time()),
        token=uuid.uuid4().hex,
    )


def _process_start(pid: int) -> str | None:
    """Start of a process in clock ticks since boot; None if it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command in parentheses may hold spaces. After it: state is field 0, start time field 19.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _pid_space() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname() if not Path("/proc/self").exists() else None


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
