"""Kill the mutants: put each fault into a copy of the package and see a test fail.

A script of our own, as no kept tool takes a fixed list: mutmut and cosmic-ray number the mutants
that their operators make, so the numbers move with every edit, and the faults that matter here
(another counter, a reuse that is not allowed) are no operator's.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import datasets
import lightning
import pytest
import sacrebleu
import torch
import torchmetrics
import transformers
from mutants import MUTANTS, Mutant

LOADED_ONCE = (datasets, lightning, sacrebleu, torch, torchmetrics, transformers)
"""Libraries that every run of tests inherits: loading them takes longer than most tests."""
ROOT = Path(__file__).parents[2]
COPIED = ("dlm", "recipes", "tests", "docs", "pyproject.toml")
TIMEOUT_S = 600
VERDICTS = {0: "alive", 1: "killed", None: "killed"}
"""By pytest's status; None: a test hung."""


def main() -> int:
    """Print the table; 1 if a mutant lives that should not, or the other way round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the table, from 1")
    chosen = parser.parse_args().only or range(1, len(MUTANTS) + 1)
    numbered = [(number, MUTANTS[number - 1]) for number in chosen]
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made)
        copy_project(copy)
        status, output = run_tests(copy, {t for _, mutant in numbered for t in mutant.tests})
        if status != 0:
            sys.exit(f"the tests fail without any mutant: mend them first\n{output}")
        print("| | where | fault | verdict | by | s |\n|---|---|---|---|---|---|", flush=True)
        wrong = [number for number, mutant in numbered if not as_listed(copy, number, mutant)]
    if wrong:
        print(f"\nnot as listed: {', '.join(map(str, wrong))}: write the test that is missing")
    return int(bool(wrong))


def copy_project(copy: Path) -> None:
    """What the tests read; the tree that is worked in stays as it is."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)


def as_listed(copy: Path, number: int, mutant: Mutant) -> bool:
    """Whether the mutant is killed, or equivalent and alive; prints its line."""
    started = time.monotonic()
    file = copy / mutant.file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        status, output = run_tests(copy, mutant.tests)
    finally:
        file.write_text(text, encoding="utf-8")
    verdict = VERDICTS.get(status, f"broken: pytest ends with {status}")
    failed = re.search(r"^FAILED (?:\S*/)?(\S+)", output, re.MULTILINE)
    by = f"`{failed[1]}`" if failed else mutant.equivalent
    fault = f"`{' '.join(mutant.old.split())}` -> `{' '.join(mutant.new.split())}`"
    name, seconds = mutant.file.removeprefix("dlm/"), time.monotonic() - started
    print(f"| {number} | {name} | {fault} | {verdict} | {by} | {seconds:.0f} |", flush=True)
    return verdict == ("alive" if mutant.equivalent else "killed")


def run_tests(copy: Path, tests: Iterable[str]) -> tuple[int | None, str]:
    """pytest's status and output, up to the first failure."""
    log = copy / "output.txt"
    process = multiprocessing.get_context("fork").Process(
        target=_pytest_in, args=(copy, sorted(tests), log)
    )
    process.start()
    process.join(TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return None, log.read_text(encoding="utf-8")
    return process.exitcode, log.read_text(encoding="utf-8")


def _pytest_in(copy: Path, tests: list[str], log: Path) -> None:
    assert not any(name.partition(".")[0] == "dlm" for name in sys.modules), "the tree's own"
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    # For processes that tests start; no byte code, as two versions of a file may have one second.
    os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    torch.set_num_threads(1)
    status = pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests])
    sys.stdout.flush()
    os._exit(int(status))


if __name__ == "__main__":
    sys.exit(main())
