"""Writes checkpoints while training goes on.

A thread copies the tensors, then writes, flushes and hashes the files. Training goes on at once,
and waits before the optimizer would change what is not copied yet. The copies are kept and used
again: memory that is new costs more than the copying.
"""

import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from dlm.distributed.portable import load_whole
from dlm.files import sha256_of, write_text

SUM_SUFFIX = ".sum"
"""Behind a file's name: its size and hash, there once the file is whole and on disk."""


class CheckpointFiles(TorchCheckpointIO):
    """Takes what a save consists of, then writes it behind the training's back."""

    def __init__(self, *, background: bool = True) -> None:
        """``background`` False: training waits for the files, and no copies are held."""
        self.background = background
        self._copies = HostCopies()
        self._collected: list[tuple[dict[str, Any], Path]] = []

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        self._collected.append((checkpoint, Path(path)))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_whole(Path(path))

    def write(self, afterwards: Callable[[], None]) -> "Writing":
        """Begin to write what was collected; ``afterwards`` is called when it is on disk."""
        collected, self._collected = self._collected, []
        if not self.background:
            return Writing(lambda: None, partial(_write, collected, afterwards), background=False)
        copies, copy = self._copies.of([checkpoint for checkpoint, _ in collected])
        paths = [path for _, path in collected]
        copied = list(zip(copies, paths, strict=True))
        return Writing(copy, partial(_write, copied, afterwards), background=True)


def _write(files: list[tuple[dict[str, Any], Path]], afterwards: Callable[[], None]) -> None:
    for checkpoint, path in files:
        write_file(checkpoint, path)
    afterwards()


class Writing:
    """One save under way."""

    def __init__(
        self, copy: Callable[[], None], write: Callable[[], None], *, background: bool
    ) -> None:
        self._copy, self._write = copy, write
        self._copied = threading.Event()
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if background:
            # A daemon: a process that has to end does not wait for a disk.
            self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
            self._thread.start()
        else:
            self._run()

    def _run(self) -> None:
        try:
            self._copy()
            self._copied.set()
            self._write()
        except BaseException as error:  # raised again where training waits for it
            self.error = error
        finally:
            self._copied.set()

    def wait_until_copied(self) -> None:
        """Return when the tensors may change."""
        self._copied.wait()

    def wait(self) -> None:
        """Return when it is done.

        Raises:
            BaseException: What went wrong in it.
        """
        if self._thread is not None:
            self._thread.join()
        if self.error is not None:
            raise self.error


class HostCopies:
    """Copies of tensors in the host's memory, in place of those of the call before."""

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []
        self._used = 0
        self._same: dict[tuple[int, torch.Size], Tensor] = {}
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def of(self, value: Any) -> tuple[Any, Callable[[], None]]:
        """The same nested lists and dicts with room for each tensor, and what fills it: at once
        from a GPU, whose memory moves fast, else when it is called."""
        self._used, self._same, self._pairs = 0, {}, []
        copied = self._copy(value)
        del self._buffers[self._used :]
        pairs = self._pairs
        self._same, self._pairs = {}, []
        if any(tensor.is_cuda for _, tensor in pairs):
            _fill(pairs)
            torch.cuda.synchronize()
            return copied, lambda: None
        return copied, partial(_fill, pairs)

    def _copy(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._copy(content) for key, content in value.items()}
        if isinstance(value, (list, tuple)):
            copied = [self._copy(content) for content in value]
            return copied if isinstance(value, list) else tuple(copied)
        return self._copy_of(value.detach()) if isinstance(value, Tensor) else value

    def _copy_of(self, tensor: Tensor) -> Tensor:
        # Tied weights stay one tensor, on disk too.
        key = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and key in self._same:
            return self._same[key]
        buffer = self._buffer(tensor)
        self._pairs.append((buffer, tensor))
        self._same[key] = buffer
        return buffer

    def _buffer(self, tensor: Tensor) -> Tensor:
        fits = self._used < len(self._buffers)
        if fits:
            kept = self._buffers[self._used]
            fits = kept.shape == tensor.shape and kept.dtype == tensor.dtype
        if not fits:
            pinned = tensor.device.type == "cuda"
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            self._buffers[self._used :] = [kept]
        self._used += 1
        return kept


def _fill(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for buffer, tensor in pairs:
        buffer.copy_(tensor, non_blocking=True)


def write_file(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a file, flush it to the disk, and leave its size and hash beside it."""
    path.parent.mkdir(exist_ok=True)
    torch.save(checkpoint, path)
    found = {"size": path.stat().st_size, "sha256": sha256_of(path, flush=True)}
    write_text(path.with_name(path.name + SUM_SUFFIX), json.dumps(found), durable=False)


def sum_of(path: Path) -> dict[str, Any] | None:
    """Size and hash of a file that its writer has finished; None while it has not."""
    try:
        found: dict[str, Any] = json.loads(path.with_name(path.name + SUM_SUFFIX).read_text())
    except FileNotFoundError:
        return None
    return found
