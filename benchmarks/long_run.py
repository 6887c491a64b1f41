"""Does a long run stay as fast and as small as it begins? python benchmarks/long_run.py

Carries out one `dlm run` of 10,000 steps of about a thousand tokens each (instructions about
numbers, a small network, validations and saves in between) and looks at it from outside twenty
times a second. Prints a JSON line for the steps around 10^5, 10^6 and 10^7 tokens: real tokens per
second of the cores' time (which other work on the machine changes less than seconds), and the
process's anonymous memory (RssAnon) then and at most so far. Ends with an error if the rates differ
by more than 10 % or memory has grown by more than 5 % since a tenth of the steps.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from large_text import rss_anon

RECIPE = """
description: a long run of a small network
model: {{architecture: modernbert, hidden_size: 64, num_layers: 2, num_heads: 2,
        intermediate_size: 128, max_positions: 128, dropout: 0.0}}
data: {{max_length: 128}}
hardware: {{accelerator: cpu, num_threads: 1}}
logging: {{every_n_steps: 20, samples: 0}}
stages:
  tokenizer:
    kind: tokenizer
    data: {{train: [{{generator: number_text, count: 4000}}]}}
    tokenizer_training: {{algorithm: bpe, vocab_size: 800}}
  adapt:
    kind: adapt
    tokenizer: tokenizer
    data:
      task: instruction
      train: [{{generator: number_instructions, count: 16000}}]
      validation: [{{generator: number_instructions, count: 100}}]
    train: {{steps: {steps}, global_batch_size: 36}}
    objective: {{times: independent}}
    validation: {{every_n_steps: {tenth}, generate_rows: 0}}
    checkpoint: {{every_n_steps: {tenth}, keep: 2}}
"""

STEP = re.compile(r"(\d+),")


@dataclass(frozen=True)
class Look:
    """A run at a moment."""

    step: int
    cores_s: float
    memory_mib: float


def main() -> None:
    """Run, look, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        looks, tokens_a_step = watch(Path(folder), steps)
    lines = []
    for first, last in ((0.005, 0.025), (0.08, 0.12), (0.9, 1.0)):
        before, after = at(looks, first * steps), at(looks, last * steps)
        rate = (after.step - before.step) * tokens_a_step / (after.cores_s - before.cores_s)
        most = max(look.memory_mib for look in looks if look.step <= after.step)
        lines.append({
            "steps": after.step, "tokens": round(after.step * tokens_a_step),
            "tokens_per_cores_s": round(rate), "rss_anon_mib": round(after.memory_mib),
            "largest_rss_anon_mib": round(most),
        })  # fmt: skip
        print(json.dumps(lines[-1]), flush=True)
    rates = [line["tokens_per_cores_s"] for line in lines]
    growth = lines[-1]["largest_rss_anon_mib"] / lines[-2]["largest_rss_anon_mib"] - 1
    if min(rates) < 0.9 * max(rates) or growth > 0.05:
        raise SystemExit(f"not steady: rates {rates}, memory grew by {growth:.1%}")


def watch(folder: Path, steps: int) -> tuple[list[Look], float]:
    """What the run looked like whenever its log had grown, and its tokens a step."""
    recipe = folder / "long.yaml"
    recipe.write_text(RECIPE.format(steps=steps, tenth=steps // 10))
    command = [Path(sys.executable).with_name("dlm"), "run", recipe, "--run-dir", folder / "run"]
    stage = folder / "run" / "02_adapt"
    looks: list[Look] = []
    with (folder / "log").open("w") as log:
        run = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while run.poll() is None:
            time.sleep(0.05)
            memory, step = rss_anon(run.pid), last_step(stage / "logs" / "throughput.csv")
            if memory and step > (looks[-1].step if looks else 0):
                looks.append(Look(step, cores_time(run.pid), memory))
    if run.returncode:
        raise SystemExit((folder / "log").read_text())
    figures = json.loads((stage / "manifest.json").read_text())["metrics"]["throughput"]
    return looks, figures["tokens"] / figures["steps"]


def at(looks: list[Look], step: float) -> Look:
    """The first look at a step or a later one."""
    return next((look for look in looks if look.step >= step), looks[-1])


def last_step(path: Path) -> int:
    """Of the newest row that is there."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200))
            lines = file.read().decode().splitlines()
    except OSError:
        return 0
    return max((int(found[1]) for line in lines[1:] if (found := STEP.match(line))), default=0)


def cores_time(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
