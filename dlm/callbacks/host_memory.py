"""Keeps the host's memory bounded although each batch has another shape."""

from typing import Any

from lightning import Callback

from dlm.host_memory import give_back


class HostMemory(Callback):
    """Gives freed memory back between batches."""

    def on_train_batch_end(self, *_: Any) -> None:
        give_back()

    def on_validation_batch_end(self, *_: Any) -> None:
        give_back()
