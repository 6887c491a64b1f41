"""Rank 0 with a connection to every other rank: results, failures and deaths pass through it.

Not collectives of a process group: nothing interrupts one, so a rank whose peer has failed would
sit in it until its timeout, and a rank that still computes would not hear of the failure.
"""

import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from types import TracebackType
from typing import Any, TypeVar

from dlm.errors import DlmError, Preempted, StageFailed, UserError
from dlm.host_memory import give_back

Item = TypeVar("Item")
Result = TypeVar("Result")
CONNECT_S = 60.0
GREETING_S = 10.0
"""A connection that does not prove within this time that it is a rank's is dropped."""
FAREWELL_S = 45.0
"""A rank that failed stays so long for rank 0 to say why: launchers end all when one ends."""
SILENCE_S = 30
"""A line on which nothing is acknowledged for so long is taken for cut."""


def _listener(host: str, *, backlog: int) -> Listener:
    """On the address of this machine that the others were told, on any port."""
    address = socket.gethostbyname(host)
    if address.startswith("127."):  # some hosts call themselves so, and nobody else does
        address = "" if host != "127.0.0.1" else address
    try:
        return Listener((address, 0), backlog=backlog)
    except OSError:  # it is an address before this machine's own, as of a gateway
        return Listener(("", 0), backlog=backlog)


def _give_up_after(link: "Connection[Any, Any]", seconds: float) -> None:
    """How long a read may wait; 0: for ever."""
    with socket.socket(fileno=os.dup(link.fileno())) as line:
        patience = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)


@dataclass(frozen=True)
class Failure:
    """Why a rank ended."""

    text: str
    exit_code: int = StageFailed.exit_code

    @classmethod
    def of(cls, rank: int, error: BaseException) -> "Failure":
        """An error of this process, in words for another one."""
        where = f"rank {rank} on {socket.gethostname()}"
        if isinstance(error, DlmError):
            return cls(f"{where}: {error}", error.exit_code)
        if isinstance(error, Exception | SystemExit):
            return cls(f"{where}: {type(error).__name__}: {error}")
        # Ctrl-C or a signal, which may reach one rank before the others.
        return cls(f"{where} was asked to stop: run the same command again", Preempted.exit_code)

    def error(self) -> DlmError:
        """To be raised where it was heard of."""
        kinds = {kind.exit_code: kind for kind in (UserError, Preempted)}
        return kinds.get(self.exit_code, StageFailed)(self.text)


class Star:
    """What one rank holds of the star; as a context, the time in which the ranks work together."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self._links: dict[int, Connection[Any, Any]] = {}
        self._inbox: dict[int, deque[Any]] = {peer: deque() for peer in range(world_size)}
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._failure: Failure | None = None
        self._middle_gone = threading.Event()

    def connect(self, host: str, tell: Callable[[Any], Any], *, one_host: bool = True) -> None:
        """Connect the ranks.

        Args:
            host: Where rank 0 is.
            tell: Gives every rank what rank 0 calls it with.
            one_host: Whether all ranks are on it: rank 0 then listens to this machine alone.

        Raises:
            StageFailed: A rank does not connect in time.
        """
        if self.rank:
            address, key = tell(None)
            link: Connection[Any, Any] = Client(address, authkey=key)
            link.send(self.rank)
            self._take(0, link)
            self._listen_to_all()
            return
        key = os.urandom(32)
        host = "127.0.0.1" if one_host else host
        with _listener(host, backlog=max(8, self.world_size)) as listener:
            tell(((host, listener.address[1]), key))
            threading.Thread(target=self._accept, args=(listener, key), daemon=True).start()
            with self._changed:
                self._changed.wait_for(self._complete, CONNECT_S)
        absent = [str(rank) for rank in range(1, self.world_size) if rank not in self._links]
        if absent:
            raise StageFailed(
                f"of {self.world_size} ranks, {', '.join(absent)} did not connect to rank 0 on "
                f"{host} within {CONNECT_S:.0f} s: look at what they say, and let the hosts reach "
                "each other on any port"
            )
        self._listen_to_all()  # not before: a failure is passed on to those that are there

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def size(self) -> int:
        """How many ranks share the work."""
        return self.world_size

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``work`` of every item: this rank's share is done here, the others' comes in.

        Raises:
            DlmError: A rank has failed or died; looked at before each item.
        """
        mine = []
        for item in items[self.rank :: self.world_size]:
            self._raise_failure()
            mine.append(work(item))
            give_back()
        shares = self.gather(mine)
        size = self.world_size
        return [shares[index % size][index // size] for index in range(len(items))]

    def of_first(self, make: Callable[[], Result]) -> Result:
        """What rank 0 makes."""
        made: Result = self.gather(make() if self.first else None)[0]
        return made

    def gather(self, part: Any) -> list[Any]:
        """The part of every rank, on every rank.

        Raises:
            DlmError: A rank has failed or died.
        """
        if self.rank:
            self._send(0, ("part", part))
            whole: list[Any] = self._receive(0)
            return whole
        parts = [part, *(self._receive(peer) for peer in range(1, self.world_size))]
        for peer in self._links:
            self._send(peer, ("part", parts))
        return parts

    def __enter__(self) -> "Star":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.gather(None)  # rank 0 may yet fail to write what the others made
        except DlmError as heard:
            error = heard
            raise
        finally:
            self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        if error is None:
            self._send_all(("over", None))
            return
        with self._changed:
            own = self._failure is None
            self._failure = self._failure or Failure.of(self.rank, error)
        if own:
            self._send_all(("failed", self._failure))
        if self.rank:
            self._middle_gone.wait(FAREWELL_S)

    def _complete(self) -> bool:
        return len(self._links) == self.world_size - 1

    def _accept(self, listener: Listener, key: bytes) -> None:
        while not self._complete():
            try:
                link = listener.accept()
            except OSError:
                return  # closed: all are there, or it took too long
            # Of its own each: one that says nothing keeps no other waiting.
            threading.Thread(target=self._greet, args=(link, key), daemon=True).start()

    def _greet(self, link: "Connection[Any, Any]", key: bytes) -> None:
        """Take a connection that knows the key; drop any other."""
        try:
            _give_up_after(link, GREETING_S)
            deliver_challenge(link, key)
            answer_challenge(link, key)
            peer = link.recv()  # not before it has proved itself: what is received is unpickled
            _give_up_after(link, 0)
        except (OSError, EOFError, AuthenticationError):
            link.close()
            return
        with self._changed:
            if peer in range(1, self.world_size) and peer not in self._links:
                self._take(peer, link)
                self._changed.notify_all()

    def _take(self, peer: int, link: "Connection[Any, Any]") -> None:
        with socket.socket(fileno=os.dup(link.fileno())) as line:  # a cut one is silent otherwise
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 2)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 6)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)
        self._links[peer] = link

    def _listen_to_all(self) -> None:
        for peer, link in self._links.items():
            threading.Thread(target=self._listen, args=(peer, link), daemon=True).start()

    def _listen(self, peer: int, link: "Connection[Any, Any]") -> None:
        over = False
        while True:
            try:
                kind, content = link.recv()
            except (EOFError, OSError) as error:
                if not over:
                    how = f" ({error})" if str(error) else ""
                    self._hear(Failure(f"rank {peer} has ended or cannot be reached{how}"))
                self._middle_gone.set()
                return
            over = over or kind == "over"
            if kind == "failed":
                self._hear(content)
            elif kind == "part":
                with self._changed:
                    self._inbox[peer].append(content)
                    self._changed.notify_all()

    def _hear(self, failure: Failure) -> None:
        """Note the first failure; rank 0 tells the others."""
        with self._changed:
            if self._failure is not None:
                return
            self._failure = failure
            self._changed.notify_all()
        if self.first:
            self._send_all(("failed", failure))

    def _receive(self, peer: int) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._inbox[peer] or self._failure is not None)
            if self._inbox[peer]:
                return self._inbox[peer].popleft()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure.error()

    def _send_all(self, message: tuple[str, Any]) -> None:
        for peer in list(self._links):
            self._send(peer, message)

    def _send(self, peer: int, message: tuple[str, Any]) -> None:
        try:
            with self._sending:
                self._links[peer].send(message)
        except OSError:
            return  # it is gone: the thread that listens to it knows why
