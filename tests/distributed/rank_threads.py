"""Ranks as threads of one process, connected as processes are."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from dlm.distributed.star import Star

Outcome = Any
"""What a rank's work gave, or the error that it ended with."""


def run_ranks(world_size: int, work: Callable[[Star], Any]) -> list[Outcome]:
    """``work`` on every rank, within the star; gives each one's outcome, none of them hangs."""
    told: list[queue.Queue[Any]] = [queue.Queue() for _ in range(world_size)]
    outcomes: list[Outcome] = [TimeoutError("the rank hangs")] * world_size

    def rank_main(rank: int) -> None:
        def tell(content: Any) -> Any:
            if rank == 0:
                for other in told:
                    other.put(content)
            return told[rank].get(timeout=20)

        star = Star(rank, world_size)
        try:
            star.connect("127.0.0.1", tell)
            with star:
                outcomes[rank] = work(star)
        except BaseException as error:
            outcomes[rank] = error

    threads = [
        threading.Thread(target=rank_main, args=(r,), daemon=True) for r in range(world_size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return outcomes
