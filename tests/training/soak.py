"""Kill the tiny chain at random times, again and again; nothing may be lost. ``make soak``.

Every attempt is a process of its own that gets SIGKILL after a random time, wherever it then is.
The same command follows, until the chain is done; then its weights are compared with those of a
chain that nobody disturbed, and the next one begins. Attempts are forked from a process that has
imported everything already: otherwise most kills would hit imports. Prints a summary as JSON; exit
code 1 if anything was lost.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from resume_tools import RECIPE, STAGES, checkpoint_weights, directory, measured, weights

import dlm.recipe.evaluate_stage
import dlm.training.train  # noqa: F401 - imported once, for all attempts
from dlm.callbacks.checkpoint import newest_checkpoint
from dlm.cli import main

TRAINED = STAGES[1:-1]
PATIENCE_S = 300.0


@dataclass
class Soak:
    """What was done and found."""

    place: Path
    longest_s: float
    chance: random.Random
    chains: int = 0
    kills: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    """Stage that was under way -> kills."""
    losses: list[str] = field(default_factory=list)

    def chain(self, reference: Path, most_kills: int) -> None:
        """One chain to its end, killed on the way at most so often in all."""
        run_dir = self.place / f"chain-{self.chains}"
        before: dict[str, int] = {}
        while True:
            lives_s = self.chance.uniform(0.0, self.longest_s) if self.kills < most_kills else None
            code = attempt(run_dir, lives_s)
            now = progress(run_dir)
            for stage, step in before.items():
                if now.get(stage, -1) < step:
                    self.losses.append(f"{run_dir.name}: {stage} fell from {step} to {now}")
            before = now
            if code == 0:
                break
            if code != -signal.SIGKILL:
                log = (self.place / "log.txt").read_text()[-3000:]
                self.losses.append(f"{run_dir.name}: exit code {code}: {log}")
                return
            self.kills += 1
            self.hits[under_way(now)] += 1
        self.chains += 1
        self.losses += [f"{run_dir.name}: {text}" for text in differences(run_dir, reference)]


def attempt(run_dir: Path, lives_s: float | None) -> int:
    """``dlm run`` in a process of its own; gives the exit code, negative for a signal."""
    process = os.fork()
    if not process:
        log = os.open(run_dir.parent / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 99
        try:
            sys.argv = ["dlm", "run", str(RECIPE), "--run-dir", str(run_dir)]
            code = main(sys.argv[1:])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    deadline = time.monotonic() + (PATIENCE_S if lives_s is None else lives_s)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def progress(run_dir: Path) -> dict[str, int]:
    """Stage -> what is safe: the newest whole checkpoint's step, or 1000 when it is done."""
    found = {}
    for stage in STAGES:
        place = directory(run_dir, stage)
        saved, _ = newest_checkpoint(place / "checkpoints")
        if (place / "manifest.json").exists():
            found[stage] = 1000
        elif saved is not None:
            found[stage] = saved.step
    return found


def under_way(now: dict[str, int]) -> str:
    """The first stage that is not done."""
    return next((stage for stage in STAGES if now.get(stage) != 1000), "the end")


def differences(run_dir: Path, reference: Path) -> list[str]:
    """What a chain has that the undisturbed one has not: weights, bit by bit, and measurements."""
    found = []
    for stage in TRAINED:
        ours, theirs = directory(run_dir, stage), directory(reference, stage)
        if weights(ours) != weights(theirs):
            found.append(f"other weights in {stage}")
        if measured(ours) != measured(theirs):
            found.append(f"other measurements in {stage}")
        final = [checkpoint_weights(place, 24) for place in (ours, theirs)]
        if any(not tensor.equal(final[1][name]) for name, tensor in final[0].items()):
            found.append(f"another final state in {stage}")
    return found


def run_soak(arguments: argparse.Namespace) -> int:
    """Chains until there were enough kills, or until the time is over."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ |= {"DLM_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1"}
        reference = place / "reference"
        if attempt(reference, None):
            print((place / "log.txt").read_text()[-3000:], file=sys.stderr)
            return 1
        undisturbed_s = time.monotonic() - begin
        longest_s = arguments.longest or max(1.0, undisturbed_s / 3)
        soak = Soak(place, longest_s, random.Random(arguments.seed))
        while soak.kills < arguments.kills and time.monotonic() - begin < arguments.minutes * 60:
            soak.chain(reference, arguments.kills)
    summary = {
        "kills": soak.kills,
        "losses": soak.losses,
        "chains_finished_and_equal": soak.chains - len({x.split(":")[0] for x in soak.losses}),
        "kills_by_stage": dict(soak.hits),
        "seconds": round(time.monotonic() - begin),
        "undisturbed_chain_s": round(undisturbed_s, 1),
        "an_attempt_lives_s": [0, round(longest_s, 1)],
        "seed": arguments.seed,
    }
    print(json.dumps(summary, indent=1))
    return bool(soak.losses)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=120, help="begin no further chain after")
    parser.add_argument("--longest", type=float, help="longest life of an attempt, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    sys.exit(run_soak(parser.parse_args()))
