"""How long the command line takes to answer: python benchmarks/command_line.py [RUN_DIR]

With a finished quickstart run, its second run (every stage skipped) is timed too.
"""

import json
import platform
import statistics
import subprocess
import sys
import time

REPEATS = 5


def seconds(arguments: list[str]) -> float:
    """Median wall time of a command over a few repeats, the first (cold) one left out."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "dlm.cli", *arguments], check=True, capture_output=True
        )
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def main() -> None:
    """Print one JSON line a command."""
    commands = {
        "dlm --help (limit 0.5 s)": ["--help"],
        "dlm run quickstart --dry-run (limit 3 s)": ["run", "quickstart", "--dry-run"],
    }
    if len(sys.argv) > 1:
        again = ["run", "quickstart", "--run-dir", sys.argv[1]]
        commands["dlm run quickstart, all done (limit 15 s)"] = again
    for name, arguments in commands.items():
        row = {"command": name, "seconds": round(seconds(arguments), 3)}
        print(json.dumps(row | {"python": platform.python_version()}))


if __name__ == "__main__":
    main()
