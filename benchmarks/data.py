"""Preparing and reading rows: python benchmarks/data.py TEXT_FILE TOKENIZER [--megabytes 50 500]

or, for short rows: python benchmarks/data.py PAIRS_FILE TOKENIZER --pairs src tgt

Makes files of the given sizes by repeating the lines of TEXT_FILE with variation, and prints JSON
lines: speed of preparing beside the tokenizer's own encode_batch on the same lines in the same
process, the largest anonymous memory (RssAnon) of preparing and of loading, and tokens a second of
a loader alone on blocks of 512 tokens. Each measurement is a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

BLOCK, BATCH = 512, 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("tokenizer")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", nargs=2, metavar=("SOURCE", "TARGET"),
                        help="the file holds JSON lines with these fields")  # fmt: skip
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, *rest = options.measure.split(",")
        measurements = {"prepare": prepare, "load": load}
        print(json.dumps(measurements[name](options.text, options.tokenizer, *map(int, rest))))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DLM_CACHE"] = folder
        if options.pairs:
            print(json.dumps(prepare_pairs(options.text, options.tokenizer, *options.pairs)))
            return
        for megabytes in options.megabytes:
            path = Path(folder) / f"{megabytes}.txt"
            repeat_with_variation(options.text, path, megabytes * 10**6)
            for words in ("prepare", *(f"load,{workers}" for workers in options.workers)):
                command = [sys.executable, __file__, str(path), options.tokenizer]
                subprocess.run([*command, "--measure", words], check=True)
            path.unlink()


def repeat_with_variation(text: Path, path: Path, size: int) -> None:
    """The lines again and again, each with a number of its own."""
    lines = [line.strip() for line in text.read_text(encoding="utf-8").splitlines() if line.strip()]
    with path.open("w", encoding="utf-8") as file:
        number = written = 0
        while written < size:
            written += file.write(f"{number} {lines[number % len(lines)]}\n")
            number += 1


def prepare(path: Path, tokenizer_name: str) -> dict[str, Any]:
    """Preparing, between two runs of the tokenizer alone on the first 10 MB."""
    tokenizer, rows = _setting(path, tokenizer_name)
    before = encode_batch_seconds(path, tokenizer)
    with LargestMemory() as memory:
        started, cpu_started = time.perf_counter(), time.process_time()
        shards = _shards(rows, tokenizer)
        seconds = time.perf_counter() - started
    cpu = time.process_time() - cpu_started
    after = encode_batch_seconds(path, tokenizer)
    size = path.stat().st_size / 1e6
    alone, cpu_alone = (2 / (b + a) for b, a in zip(before, after, strict=True))
    return {
        "measured": "prepare", "megabytes": round(size), "rows": len(shards),
        "tokens": shards.index.tokens, "seconds": round(seconds, 1),
        "megabytes_a_second": round(size / seconds, 2),
        "encode_batch_megabytes_a_second": round(alone, 2),
        "of_encode_batch": round(size / seconds / alone, 2),
        # Of the cores' time, which other work on the machine changes less.
        "of_encode_batch_by_cpu_time": round(size / cpu / cpu_alone, 2),
        "rss_anon_mb": memory.at_start, "largest_rss_anon_mb": memory.largest,
    }  # fmt: skip


def prepare_pairs(path: Path, tokenizer_name: str, source: str, target: str) -> dict[str, Any]:
    """Preparing pairs, between two runs of the tokenizer alone on their sources and targets."""
    from transformers import AutoTokenizer

    from dlm.data.examples import ExampleRecipe, TaskSource
    from dlm.data.prompts import Template
    from dlm.data.rows.wanted import RowsWanted
    from dlm.data.sources import Source

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
    pairs = Source(split="", path=path, fields={"src": source, "tgt": target})
    task = TaskSource("pairs", pairs, "translation", (Template.of("translation"),))
    wanted = RowsWanted(ExampleRecipe((task,)), BLOCK)
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts = [row[field] for row in rows for field in (source, target)]

    def alone() -> tuple[float, float]:
        started, cpu_started = time.perf_counter(), time.process_time()
        for start in range(0, len(texts), 4096):
            tokenizer.backend_tokenizer.encode_batch(
                texts[start : start + 4096], add_special_tokens=False
            )
        return time.perf_counter() - started, time.process_time() - cpu_started

    before = alone()
    started, cpu_started = time.perf_counter(), time.process_time()
    shards = _shards(wanted, tokenizer)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    seconds_alone, cpu_alone = ((b + a) / 2 for b, a in zip(before, alone(), strict=True))
    return {
        "measured": "pairs", "rows": len(shards), "tokens": shards.index.tokens,
        "seconds": round(seconds, 2), "of_encode_batch": round(seconds_alone / seconds, 2),
        "of_encode_batch_by_cpu_time": round(cpu_alone / cpu, 2),
    }  # fmt: skip


def encode_batch_seconds(path: Path, tokenizer: Any) -> tuple[float, float]:
    """Seconds a megabyte of the tokenizer alone, on the clock and of all cores together.

    Its batches are 4096 lines that lie in memory.
    """
    with path.open(encoding="utf-8") as file:
        lines = [line.strip() for line in file.readlines(10**7)]
    size = sum(len(line.encode()) + 1 for line in lines) / 1e6
    started, cpu_started = time.perf_counter(), time.process_time()
    for start in range(0, len(lines), 4096):
        tokenizer.backend_tokenizer.encode_batch(
            lines[start : start + 4096], add_special_tokens=False
        )
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    return seconds / size, cpu / size


def load(path: Path, tokenizer_name: str, workers: int) -> dict[str, Any]:
    """A loader alone: batches of 64 blocks, in the order of training."""
    from torch.utils.data import DataLoader

    from dlm.data.batches.batching import StepSampler, TokenDataset
    from dlm.data.batches.order import BatchOrder

    tokenizer, rows = _setting(path, tokenizer_name)
    shards = _shards(rows, tokenizer)
    order = BatchOrder(shards.lengths, BATCH, 0, 50)
    sampler = StepSampler(shards, order, first_step=0, accumulate=1, rank=0, world_size=1)
    loader = DataLoader(
        TokenDataset(shards, tokenizer.pad_token_id), batch_sampler=sampler,  # type: ignore[arg-type]
        collate_fn=_same, num_workers=workers,
    )  # fmt: skip
    batches = iter(loader)
    next(batches)
    with LargestMemory() as memory:
        started, tokens = time.perf_counter(), 0
        for batch in islice(batches, 1000):
            tokens += batch.tokens_BL.numel()
        seconds = time.perf_counter() - started
        of_workers = [_rss_anon(worker.pid) for worker in getattr(batches, "_workers", ())]
    return {
        "measured": "load", "rows": len(shards), "workers": workers,
        "tokens_a_second": round(tokens / seconds), "largest_rss_anon_mb": memory.largest,
        "rss_anon_mb_of_workers": of_workers,
    }  # fmt: skip


def _same(batch: Any) -> Any:
    return batch


def _setting(path: Path, tokenizer_name: str) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    from dlm.data.examples import ExampleRecipe, TaskSource
    from dlm.data.prompts import Template
    from dlm.data.rows.wanted import RowsWanted
    from dlm.data.sources import Source

    source = TaskSource("text", Source(split="", path=path), "text", (Template.of("text"),))
    wanted = RowsWanted(ExampleRecipe((source,)), BLOCK, text_blocks=BLOCK)
    return AutoTokenizer.from_pretrained(tokenizer_name), wanted


def _shards(rows: Any, tokenizer: Any) -> Any:
    from dlm.data.rows.shards.prepare import token_shards

    return token_shards(rows, tokenizer, say=lambda note: print(note, file=sys.stderr))


class LargestMemory:
    """The largest anonymous memory of this process while it is entered, in MB."""

    def __enter__(self) -> "LargestMemory":
        self.at_start = self.largest = _rss_anon(os.getpid())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.largest = max(self.largest, _rss_anon(os.getpid()))


def _rss_anon(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) // 1024


if __name__ == "__main__":
    main()
