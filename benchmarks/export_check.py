"""What checking its hashes costs `dlm generate`: python benchmarks/export_check.py TOKENIZER

XLM-R BASE's shape with random weights, in a temporary folder; TOKENIZER is any Hugging Face
directory that holds one. Prints a JSON line: processor seconds of answering one prompt with the
hashes taken away, at the first call that checks them and at the second.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 3
PROMPT = ("--prompt", "How are you?", "--length", "canvas", "--canvas-length", "16", "--steps", "4")


def generate(model: Path) -> float:
    """Processor seconds of one answer, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "dlm.cli", "generate", str(model), *PROMPT]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def check(model: Path) -> float:
    """Processor seconds of the check alone, in a process of its own."""
    code = (
        "import sys, time; from pathlib import Path; from dlm.models.sums import check_sums; "
        "begun = time.process_time(); check_sums(Path(sys.argv[1])); "
        "print(time.process_time() - begun)"
    )
    command = [sys.executable, "-c", code, str(model)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Write the model, measure, print."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    from checkpoint import write_model

    from dlm.generation.model import write_kind
    from dlm.models.sums import SUMS, write_sums

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        write_model(Path(sys.argv[1]), model)
        write_kind(model, "diffusion", "none", shifted=False, canvas_length=16)
        without = statistics.median(generate(model) for _ in range(REPEATS))
        write_sums(model)
        time.sleep(2)  # hashes of files that have just changed are not remembered
        first_check = check(model)
        checks = statistics.median(check(model) for _ in range(REPEATS))
        checked = statistics.median(generate(model) for _ in range(REPEATS))
        size = sum(path.stat().st_size for path in model.iterdir() if path.name != SUMS)
    row = {
        "gb": round(size / 1e9, 2), "generate_cpu_s": round(without, 2),
        "generate_checked_cpu_s": round(checked, 2), "first_check_cpu_s": round(first_check, 3),
        "second_check_cpu_s": round(checks, 5), "second_share": round(checks / without, 6),
    }  # fmt: skip
    print(json.dumps(row))


if __name__ == "__main__":
    main()
