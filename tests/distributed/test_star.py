"""Ranks share work, and none of them goes on alone or waits in vain."""

import os
import queue
import socket
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import pytest
from rank_threads import run_ranks

from dlm.distributed import star as module
from dlm.distributed.share import ALONE
from dlm.distributed.star import Star
from dlm.errors import Preempted, StageFailed, UserError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAREWELL_S", 0.1)


@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_every_rank_gets_all_results_in_order_and_does_only_its_own(count: int) -> None:
    items = list(range(count))
    done: list[list[int]] = [[], [], []]

    def work(star: Star) -> list[int]:
        return star.map(lambda item: done[star.rank].append(item) or item * item, items)  # type: ignore[func-returns-value]

    assert run_ranks(3, work) == [ALONE.map(lambda item: item * item, items)] * 3
    assert done == [items[0::3], items[1::3], items[2::3]]


def test_rank_0_decides_for_all() -> None:
    assert run_ranks(3, lambda star: star.of_first(lambda: star.rank)) == [0, 0, 0]


@pytest.mark.parametrize("failing", [0, 2])
@pytest.mark.parametrize("error", [UserError("no such row"), MemoryError("full")])
def test_all_ranks_end_with_the_message_of_the_one_that_failed(
    failing: int, error: Exception
) -> None:
    def work(star: Star) -> Any:
        if star.rank == failing:
            raise error
        return star.map(str, range(6))

    outcomes = run_ranks(3, work)
    assert outcomes[failing] is error
    kind, text = (UserError, "") if isinstance(error, UserError) else (StageFailed, "MemoryError: ")
    for other in {0, 1, 2} - {failing}:
        assert isinstance(outcomes[other], kind)
        assert str(outcomes[other]).startswith(f"rank {failing} on ")
        assert str(outcomes[other]).endswith(f": {text}{error}")


def test_a_rank_that_still_computes_hears_of_a_failure_before_its_next_item() -> None:
    at_work = threading.Event()
    begun: list[int] = []

    def work(star: Star) -> Any:
        if star.rank:
            assert at_work.wait(20)
            raise UserError("no such row")

        def item(number: int) -> None:
            begun.append(number)
            at_work.set()
            while star._failure is None:
                time.sleep(0.01)

        return star.map(item, range(100))

    outcomes = run_ranks(2, work)
    assert isinstance(outcomes[0], UserError) and begun == [0]


def test_a_rank_that_is_asked_to_stop_has_not_failed() -> None:
    class AskedToStop(BaseException):
        pass

    def work(star: Star) -> Any:
        if star.rank:
            raise AskedToStop
        return star.map(str, range(4))

    outcomes = run_ranks(2, work)
    assert isinstance(outcomes[0], Preempted)
    assert "was asked to stop: run the same command again" in str(outcomes[0])


def test_a_failure_at_the_very_end_of_rank_0_reaches_the_others() -> None:
    def work(star: Star) -> Any:
        star.map(str, range(4))
        if star.first:
            raise OSError("the disk is full")

    outcomes = run_ranks(2, work)
    assert isinstance(outcomes[1], StageFailed) and "the disk is full" in str(outcomes[1])


@pytest.mark.parametrize(("dying", "world_size"), [(0, 2), (1, 3)])
def test_a_rank_that_dies_ends_the_others(dying: int, world_size: int) -> None:
    def work(star: Star) -> Any:
        if star.rank == dying:
            (link,) = star._links.values()
            with socket.socket(fileno=os.dup(link.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)  # as the system does for a process that is gone
            return None
        return star.map(str, range(4))

    outcomes = run_ranks(world_size, work)
    for other in set(range(world_size)) - {dying}:
        assert isinstance(outcomes[other], StageFailed)
        assert f"rank {dying} has ended or cannot be reached" in str(outcomes[other])


def test_a_rank_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 0.2)
    with pytest.raises(StageFailed, match=r"of 3 ranks, 1, 2 did not connect to rank 0 on 127\."):
        Star(0, 3).connect("here", lambda content: content)


@pytest.mark.parametrize("stranger", ["closed", "junk", "silent", "wrong key"])
def test_a_stranger_is_dropped_and_the_ranks_are_taken(stranger: str) -> None:
    opened: list[Any] = []

    def tell(content: Any) -> Any:
        ((host, port), _) = content
        assert host == "127.0.0.1"
        line = socket.create_connection((host, port), timeout=5)
        opened.append(line)
        if stranger == "closed":
            line.close()
        elif stranger == "junk":
            line.sendall(b"GET / HTTP/1.1\r\n\r\n" * 50)
        elif stranger == "wrong key":
            opened.append(threading.Thread(target=_client, args=((host, port), b"guess")))
            opened[-1].start()
        time.sleep(0.1)
        peer.start()
        told.put(content)
        return content

    told: queue.Queue[Any] = queue.Queue()
    rank_1 = Star(1, 2)
    peer = threading.Thread(target=rank_1.connect, args=("", lambda _: told.get()), daemon=True)
    rank_0 = Star(0, 2)
    started = time.monotonic()
    rank_0.connect("127.0.0.1", tell)
    peer.join(5)
    assert time.monotonic() - started < 5 and list(rank_0._links) == [1]
    rank_1._send(0, ("part", "hello"))
    assert rank_0._receive(1) == "hello"


def _client(address: tuple[str, int], key: bytes) -> None:
    with pytest.raises((AuthenticationError, OSError, EOFError)):
        Client(address, authkey=key)


def test_rank_0_of_one_host_listens_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 0.2)
    heard: list[str] = []

    def tell(content: Any) -> Any:
        port = f"{content[0][1]:04X}"
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        heard.extend(line.split()[1] for line in lines if line.split()[1].endswith(f":{port}"))
        return content

    with pytest.raises(StageFailed):
        Star(0, 2).connect("localhost", tell)
    assert len(heard) == 1 and heard[0].startswith("0100007F:")
