"""Memory and time of a run over a large text file: python benchmarks/large_text.py TEXT TOKENIZER

Makes files by repeating the lines of TEXT with a number before each, and carries out `dlm run` on
each: rows are tokenized into blocks of 512 tokens, and a small network trains on them for 30 steps
with one worker. Prints a JSON line a file: seconds of preparing, of the whole run and of the cores'
time that the run took (which other work on the machine changes less), and the largest anonymous
memory (RssAnon) of the run's process and of its workers, looked at from outside.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = """
description: a large text file
model: {{architecture: modernbert, hidden_size: 128, num_layers: 3, num_heads: 4,
        intermediate_size: 256, max_positions: 512}}
hardware: {{accelerator: cpu, num_workers: 1, num_threads: 1}}
train: {{steps: 30, global_batch_size: 4}}
stages:
  pretrain:
    kind: pretrain
    tokenizer: {tokenizer}
    data: {{train: [{{path: text.txt}}], text_blocks: 512, max_length: 512}}
    objective: {{times: independent}}
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50, 500, 5000])
    options = parser.parse_args()
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(options, Path(folder), megabytes)), flush=True)


def measure(options: argparse.Namespace, folder: Path, megabytes: int) -> dict[str, object]:
    """One run over a file of so many megabytes."""
    size = repeat_with_variation(options.text, folder / "text.txt", megabytes * 10**6)
    recipe = folder / "large.yaml"
    recipe.write_text(RECIPE.format(tokenizer=options.tokenizer.absolute()))
    words = [f"data.root={folder}", f"data.cache={folder}/cache", "--run-dir", f"{folder}/run"]
    started, cores_before = time.perf_counter(), cores_time_of_ended()
    command = [Path(sys.executable).with_name("dlm"), "run", recipe, *words]
    with (folder / "log").open("w") as log:
        run = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        largest = {"parent": 0.0, "worker": 0.0}
        while run.poll() is None:
            largest["parent"] = max(largest["parent"], rss_anon(run.pid))
            largest["worker"] = max([largest["worker"], *map(rss_anon, children(run.pid))])
            time.sleep(0.5)
    said = (folder / "log").read_text()
    if run.returncode:
        raise SystemExit(said)
    ((rows, tokens, seconds),) = re.findall(
        r"([\d,]+) rows \(([\d,]+) tokens\) tokenized into \S+ in ([\d.]+) s", said
    )
    return {
        "megabytes": round(size / 1e6), "rows": rows, "tokens": tokens,
        "prepare_s": float(seconds), "run_s": round(time.perf_counter() - started, 1),
        "cores_s": round(cores_time_of_ended() - cores_before, 1),
        "rss_anon_mib": {name: round(value) for name, value in largest.items()},
    }  # fmt: skip


def repeat_with_variation(text: Path, path: Path, size: int) -> int:
    """The lines again and again, each with a number of its own; gives the bytes written."""
    lines = text.read_bytes().splitlines(keepends=True)
    number = written = 0
    with path.open("wb") as file:
        while written < size:
            written += file.write(b"%d %s" % (number, lines[number % len(lines)]))
            number += 1
    return written


def cores_time_of_ended() -> float:
    """Seconds that the processes started here, and theirs, have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rss_anon(pid: int) -> float:
    """Anonymous memory of a process in MiB; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def children(pid: int) -> list[int]:
    """Processes that a process has started, and theirs."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    own = [int(child) for text in lists for child in text.split()]
    return [*own, *(far for child in own for far in children(child))]


if __name__ == "__main__":
    main()
