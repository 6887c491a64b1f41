"""Kill or damage a tiny chain at random, again and again; nothing may be lost. ``make soak``.

Every attempt is the chain, its report and a copy of its export, in a process of its own that gets
SIGKILL after a random time, wherever it then is: in the preparation of data, in training, in an
export, in an evaluation. The same commands follow until all is done; then what came out is compared
with a chain that nobody disturbed, and the next one begins, with an empty cache of its own.

With ``--damage`` one random file of the run is damaged after every kill. The next attempt has to go
on with it, or to refuse it in one message that names it, without a traceback. What was refused is
put back, and at the end the same must have come out.

Attempts are forked from a process that has imported everything already: otherwise most kills would
hit imports. Prints a line a chain and a summary as JSON; exit code 1 if anything was lost.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resume_tools import checkpoint_weights, measured, weights

import dlm.evaluation.answer_scores
import dlm.generation.generate
import dlm.recipe.evaluate_stage
import dlm.recipe.generate_stage
import dlm.training.train
import dlm.verbs.report  # noqa: F401 - imported once, for all attempts
from dlm.callbacks.checkpoint import newest_checkpoint
from dlm.cli import main

RECIPE = Path(__file__).parent / "soak_chain.yaml"
TRAINED = ("pretrain", "adapt", "length", "instruct", "autoregressive")
STAGES = ("tokenizer", *TRAINED, "evaluate", "distil")
PATIENCE_S = 300.0
REFUSED = (2, 3)
UNTRUE = ("Traceback", "not foreseen", "full traceback")


# --- one attempt ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """Where a chain, its cache, its report and the copy of its export lie."""

    place: Path

    @property
    def run(self) -> Path:
        return self.place / "run"

    def stage(self, name: str) -> Path:
        """The directory of a stage, there or not yet."""
        return self.run / f"{STAGES.index(name) + 1:02d}_{name}"

    def words(self) -> list[list[str]]:
        """The commands of an attempt."""
        copy = ["export", str(self.stage("length")), "--to", str(self.place / "copy")]
        made = (self.place / "copy").exists()
        return [
            ["run", str(RECIPE), "--run-dir", str(self.run)],
            ["report", str(self.run), "--output", str(self.place / "report.html")],
            *([] if made else [copy]),
        ]

    def log(self) -> str:
        return (self.place / "log.txt").read_text(errors="replace")


def attempt(chain: Chain, lives_s: float | None) -> int:
    """All commands in a process of its own; gives the exit code, negative for a signal."""
    chain.place.mkdir(exist_ok=True)
    process = os.fork()
    if not process:
        _live(chain)
    deadline = time.monotonic() + (PATIENCE_S if lives_s is None else lives_s)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _live(chain: Chain) -> None:
    """The child: never returns."""
    code = 99
    try:
        log = os.open(chain.place / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["DLM_CACHE"] = str(chain.place / "cache")
        for words in chain.words():
            code, sys.argv = 99, ["dlm", *words]
            code = main(words)
            if code:
                break
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# --- what is there, and what should be -----------------------------------------------------------


def progress(chain: Chain) -> dict[str, int]:
    """Stage -> what is safe: the newest whole checkpoint's step, or 1000 when it is done."""
    found = {}
    for stage in STAGES:
        saved, _ = newest_checkpoint(chain.stage(stage) / "checkpoints")
        if (chain.stage(stage) / "manifest.json").exists():
            found[stage] = 1000
        elif saved is not None:
            found[stage] = saved.step
    return found


def under_way(now: dict[str, int]) -> str:
    """The first stage that is not done."""
    return next((stage for stage in STAGES if now.get(stage) != 1000), "report and copy")


def outcome(chain: Chain) -> dict[str, Any]:
    """All that a chain is for: name -> value, equal for two chains of which nothing was lost."""
    found: dict[str, Any] = {}
    for stage in TRAINED:
        found[f"weights of {stage}"] = weights(chain.stage(stage))
        found[f"measurements of {stage}"] = measured(chain.stage(stage))
        state = checkpoint_weights(chain.stage(stage), 24)
        found[f"final state of {stage}"] = {name: x.tolist() for name, x in state.items()}
    scores = chain.stage("evaluate") / "export"
    for system in ("diffusion", "twin"):
        place = scores / system / "numbers_en_de"
        found[f"scores of {system}"] = json.loads((place / "metrics.json").read_text())["scores"]
        found[f"answers of {system}"] = _rows(place / "samples.jsonl")
    found["comparisons"] = json.loads((scores / "comparisons.json").read_text())
    found["written data"] = (chain.stage("distil") / "export" / "rows.jsonl").read_bytes()
    found["copied weights"] = (chain.place / "copy" / "model.safetensors").read_bytes()
    found["a report"] = "</html>" in (chain.place / "report.html").read_text()
    return found


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- damage --------------------------------------------------------------------------------------


def _flip(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return b"x"
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


CONTENTS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda content, chance: b"",
    "cut": lambda content, chance: content[: chance.randrange(len(content) or 1)],
    "one bit": _flip,
    "no UTF-8": lambda content, chance: content[: len(content) // 2] + b"\xff\xfe\x80",
}
WAYS = (*CONTENTS, "missing", "a directory")
LOGS = ("logs/", "samples/", "progress.json", "log.txt", "report.html")
"""What may differ where it was damaged itself."""


@dataclass
class Damage:
    """A file that was damaged, and what it held."""

    path: Path
    way: str
    content: bytes

    @classmethod
    def anywhere(cls, chain: Chain, chance: random.Random) -> "Damage | None":
        """Damage one file of the run or of its cache."""
        folders = (chain.run, chain.place / "cache")
        files = sorted(p for folder in folders for p in folder.rglob("*") if p.is_file())
        if not files:
            return None
        damage = cls(chance.choice(files), chance.choice(WAYS), b"")
        damage.content = damage.path.read_bytes()
        if damage.way in CONTENTS:
            damage.path.write_bytes(CONTENTS[damage.way](damage.content, chance))
        else:
            damage.path.unlink()
            if damage.way == "a directory":
                damage.path.mkdir()
        return damage

    def undo(self) -> None:
        """Put back what the file held, as one who has a copy."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(self.content)

    def __str__(self) -> str:
        return f"{self.way}: {'/'.join(self.path.parts[-3:])}"


# --- the soak ------------------------------------------------------------------------------------


@dataclass
class Soak:
    """What was done and found."""

    place: Path
    longest_s: float
    most: int
    chance: random.Random
    damages: bool
    expected: dict[str, Any]
    chains: int = 0
    kills: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    """Stage that was under way -> kills."""
    answers: Counter[str] = field(default_factory=Counter)
    """What an attempt did with a damaged file -> times."""
    losses: list[str] = field(default_factory=list)

    def chain(self) -> None:
        """One chain to its end, killed on the way at most so often in all."""
        chain, before = Chain(self.place / f"chain-{self.chains}"), dict[str, int]()
        self.chains += 1
        damage: Damage | None = None
        exempt: list[Damage] = []
        while True:
            lives_s = self.chance.uniform(0.0, self.longest_s) if self.kills < self.most else None
            code = attempt(chain, lives_s)
            now = progress(chain)
            if damage is not None and code != -signal.SIGKILL:
                self.judge(chain, damage, code)
            if damage is None:
                self.compare_progress(chain, before, now)
            before = now
            if code == 0:
                break
            if code == -signal.SIGKILL:
                self.kills += 1
                self.hits[under_way(now)] += 1
                if self.damages and damage is None and lives_s is not None:
                    damage = Damage.anywhere(chain, self.chance)
                    exempt += [damage] if damage else []
            elif damage is not None and code in REFUSED:
                damage.undo()
                damage, before = None, {}
            else:
                self.lose(chain, f"exit code {code}: {chain.log()[-3000:]}")
                return
        self.compare(chain, exempt)

    def judge(self, chain: Chain, damage: Damage, code: int) -> None:
        """How an attempt that was not killed took the damaged file."""
        said = chain.log()
        self.answers["went on" if code == 0 else "refused"] += 1
        bad = [word for word in UNTRUE if word in said]
        if bad:
            self.lose(chain, f"{damage}: {said[-3000:]}")
        elif code in REFUSED and not any(part in said for part in _names(damage)):
            self.lose(chain, f"{damage}: refused without its name: {said[-1500:]}")

    def compare_progress(self, chain: Chain, before: dict[str, int], now: dict[str, int]) -> None:
        for stage, step in before.items():
            if now.get(stage, -1) < step:
                self.lose(chain, f"{stage} fell from {step} to {now}")

    def compare(self, chain: Chain, exempt: list[Damage]) -> None:
        """The end of a chain against the undisturbed one's."""
        try:
            found = outcome(chain)
        except Exception as error:
            damaged = ", ".join(map(str, exempt))
            return self.lose(chain, f"cannot be read: {error!r} (damaged: {damaged})")
        logs = " ".join(str(one) for one in exempt if any(log in str(one.path) for log in LOGS))
        for name, value in self.expected.items():
            if found[name] != value and not (logs and name.startswith("measurements")):
                damaged = ", ".join(map(str, exempt))
                self.lose(chain, f"other {name}" + (f" (damaged: {damaged})" if damaged else ""))
        print(f"{chain.place.name}: {self.kills} kills", file=sys.stderr, flush=True)
        shutil.rmtree(chain.place)

    def lose(self, chain: Chain, text: str) -> None:
        print(f"LOST {chain.place.name}: {text}", file=sys.stderr, flush=True)
        self.losses.append(f"{chain.place.name}: {text}")


def _names(damage: Damage) -> tuple[str, ...]:
    """Words of which a message has to have one: the file, its directory or its stage."""
    path = damage.path
    return (path.name, path.parent.name, path.parent.parent.name)


def run_soak(arguments: argparse.Namespace) -> int:
    """Chains until there were enough kills, or until the time is over."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HUB_OFFLINE"] = "1"
        reference = Chain(Path(folder) / "reference")
        if attempt(reference, None):
            print(reference.log()[-3000:], file=sys.stderr)
            return 1
        undisturbed_s = time.monotonic() - begin
        longest_s = arguments.longest or max(1.0, undisturbed_s / 3)
        soak = Soak(Path(folder), longest_s, arguments.kills, random.Random(arguments.seed),
                    arguments.damage, outcome(reference))  # fmt: skip
        while soak.kills < soak.most and time.monotonic() - begin < arguments.minutes * 60:
            soak.chain()
    summary = {
        "kills": soak.kills,
        "losses": soak.losses,
        "chains_finished_and_equal": soak.chains - len({x.split(":")[0] for x in soak.losses}),
        "kills_by_stage": dict(soak.hits),
        "damaged_files": dict(soak.answers),
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
    parser.add_argument("--damage", action="store_true", help="damage a random file at every kill")
    parser.add_argument("--minutes", type=float, default=120, help="begin no further chain after")
    parser.add_argument("--longest", type=float, help="longest life of an attempt, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    sys.exit(run_soak(parser.parse_args()))
