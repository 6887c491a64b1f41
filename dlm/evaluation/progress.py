"""Generation that goes on where it was killed: every batch's result is written when it is there.

The batches are a function of rows and settings, so the one that follows the last written one is
computed as if nothing had happened, and every number is that of an undisturbed run.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from dlm.distributed.share import Share
from dlm.evaluation.results import UNPAIRED
from dlm.evaluation.task_rows import TaskRows
from dlm.files import make_folder, make_way, replacing
from dlm.generation.generated import Generated
from dlm.generation.model import GenerativeModel
from dlm.generation.rerank import Candidate
from dlm.generation.settings import GenerationSettings

Item = TypeVar("Item")
Result = TypeVar("Result")
FILE = ".progress.jsonl"
_RECORDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Candidate, Generated)}
_BATCHES_A_RANK = 4
_SAID_EVERY_S = 10.0


class Progress:
    """A share of the work that remembers, in a file of its own, what was done of it.

    ``map`` is called the same number of times with the same items by every attempt; what the
    file says about other items is not used.
    """

    def __init__(
        self, share: Share, file: Path, key: str, *,
        done: Callable[[int, int, int], None] = lambda call, done, of: None, quiet: bool = False,
    ) -> None:  # fmt: skip
        """``done`` is told on rank 0 how many items of how many of the call so and so are there;
        ``quiet`` leaves out what is said of what an earlier attempt left."""
        self._share, self._file, self._key = share, file, key
        self._tell, self._quiet = done, quiet
        self._calls = 0
        self._since = time.perf_counter()
        told = share.of_first(self._read)
        self._known: dict[tuple[int, int], tuple[Any, Any]] = told[0]
        self.seconds_before: float = told[1]
        """What earlier attempts spent on the batches that are not computed again."""

    @property
    def first(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self._share.first

    @property
    def size(self) -> int:
        """How many processes share the work."""
        return self._share.size

    def of_first(self, make: Callable[[], Result]) -> Result:
        """What rank 0 makes, on every rank."""
        return self._share.of_first(make)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``work`` of every item, of those alone that are not in the file; every rank calls it."""
        call, self._calls = self._calls, self._calls + 1
        done: dict[int, Any] = {}
        for index, item in enumerate(items):
            known_item, result = self._known.get((call, index), (None, None))
            if known_item == _plain(item):
                done[index] = _restored(result)
        open_ = [index for index in range(len(items)) if index not in done]
        at_once = 1 if self.size == 1 else _BATCHES_A_RANK * self.size
        for first in range(0, len(open_), at_once):
            chosen = open_[first : first + at_once]
            results = self._share.map(work, [items[index] for index in chosen])
            done |= dict(zip(chosen, results, strict=True))
            if self.first:
                self._write(call, chosen, [items[index] for index in chosen], results)
                self._tell(call, len(done), len(items))
        return [done[index] for index in range(len(items))]

    def finish(self) -> None:
        """Remove the file: the result itself is written."""
        if self.first:
            self._file.unlink(missing_ok=True)

    def _write(
        self, call: int, indices: list[int], items: Sequence[Any], results: list[Any]
    ) -> None:
        now = time.perf_counter()
        seconds, self._since = (now - self._since) / len(indices), now
        with self._file.open("a", encoding="utf-8", errors=UNPAIRED) as file:
            for index, item, result in zip(indices, items, results, strict=True):
                record = {"call": call, "index": index, "item": _plain(item),
                          "seconds": seconds, "result": _plain(result)}  # fmt: skip
                file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _read(self) -> tuple[dict[tuple[int, int], tuple[Any, Any]], float]:
        """What is known, and its seconds. A file of other rows, settings or weights, or without
        any batch, is begun anew."""
        known: dict[tuple[int, int], tuple[Any, Any]] = {}
        seconds = 0.0
        lines = _whole_lines(self._file)
        if lines and lines[0] == {"key": self._key}:
            for line in lines[1:]:
                known[line["call"], line["index"]] = (line["item"], line["result"])
                seconds += line["seconds"]
            self._say(f"{len(known)} batches are there from before")
        elif lines:
            self._say("begun before with other rows, settings or weights; it is begun anew")
        make_folder(self._file.parent)
        # Written again, as a kill may have left half a line at its end.
        kept = [{"key": self._key}, *lines[1:]] if known else [{"key": self._key}]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
        with replacing(self._file, durable=False) as partial:
            partial.write_text(text, encoding="utf-8", errors=UNPAIRED)
        return known, seconds

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(f"{self._file.parent}: {text}", flush=True)


class Told:
    """Says every few seconds how far a call of ``map`` is; short ones say nothing."""

    def __init__(self, what: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._what, self._clock = what, clock
        self._call = -1
        self._said = self._begun = clock()
        self._before = 0

    def __call__(self, call: int, done: int, of: int) -> None:
        """``done`` of this many batches of the call are there."""
        now = self._clock()
        if call != self._call:
            # What an earlier attempt left took no time of this one's.
            self._call, self._begun, self._before = call, now, done
        elif now - self._said >= _SAID_EVERY_S and done < of:
            self._said = now
            left = (now - self._begun) / (done - self._before) * (of - done)
            print(f"{self._what}: {done} of {of} batches, {left:.0f} s left", flush=True)


def progress_key(model: GenerativeModel, rows: TaskRows, settings: GenerationSettings) -> str:
    """A hash of all that decides a task's batches and their results."""
    said = [
        rows.task.identity(), rows.prompts, rows.references, rows.choices, rows.skip_too_long,
        asdict(settings),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    modules = (model.backbone, model.length_predictor)
    for parameter in _parameters(modules):
        # Some of every tensor: other weights differ everywhere, and large models hash slowly.
        few = parameter.detach().flatten()[:64].to("cpu", torch.float32)
        digest.update(few.numpy().tobytes())
    return digest.hexdigest()


def _parameters(modules: Iterable[torch.nn.Module | None]) -> Iterable[torch.Tensor]:
    for module in modules:
        if module is not None:
            yield from module.parameters()


def _whole_lines(file: Path) -> list[dict[str, Any]]:
    """The file's records up to the first that a kill left incomplete."""
    if not make_way(file).exists():
        return []
    records: list[dict[str, Any]] = []
    for line in file.read_bytes().split(b"\n")[:-1]:
        try:
            record = json.loads(line)
        except ValueError:
            break
        fields = {"call", "index", "item", "seconds", "result"} if records else {"key"}
        if not isinstance(record, dict) or record.keys() != fields:
            break
        records.append(record)
    return records


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if type(value).__name__ in _RECORDS:
        return {"record": type(value).__name__, **asdict(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if not isinstance(value, str | int | float | bool | None):
        raise TypeError(f"{type(value).__name__} cannot be kept in {FILE}")
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {name: item for name, item in value.items() if name != "record"}
        return _RECORDS[value["record"]](**fields)
    return [_restored(item) for item in value] if isinstance(value, list) else value
