"""Score against effort of every sampler: python benchmarks/samplers.py MODEL --task NAME

MODEL is a run, a stage or a model directory. Prints a Markdown table: the task's first metric at
several numbers of iterations, network calls and rows a second, on the task's rows (not for choosing
a sampler: choose on validation rows). Lengths are the references', so that samplers alone differ.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import torch

from dlm.diffusion.sampling.samplers import SAMPLERS
from dlm.evaluation.evaluate import evaluate_system
from dlm.evaluation.task_rows import read_task
from dlm.evaluation.tasks import load_task
from dlm.generation.model import open_model
from dlm.generation.settings import GenerationSettings
from dlm.recipe.locate import locate_model
from dlm.training.quiet import quiet_libraries

HEADER = "| sampler | iterations | METRIC [95 % interval] | network calls | rows/s |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--task", default="numbers_en_de")
    parser.add_argument("--data-root", metavar="DIR", help="local files of the task")
    parser.add_argument("--limit", type=int, help="only the first so many rows")
    parser.add_argument("--iterations", type=int, nargs="+", default=[1, 2, 4, 10])
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    options = parser.parse_args()
    quiet_libraries()
    model = open_model(locate_model(options.model).place)
    rows = read_task(load_task(options.task), root=options.data_root, limit=options.limit)
    metric = rows.task.metrics[0]
    print(HEADER.replace("METRIC", metric) + "\n|---|---|---|---|---|", flush=True)
    for name in options.samplers:
        for iterations in options.iterations:
            settings = GenerationSettings(sampler=name, num_iterations=iterations, length="oracle")
            with tempfile.TemporaryDirectory() as folder:
                result = evaluate_system(
                    name, options.model, model, rows, settings, Path(folder) / "result",
                    bootstrap_samples=1000,
                )  # fmt: skip
            score, figures = result.metrics["scores"][metric], result.metrics
            print(
                f"| {name} | {iterations} | {score['score']:.1f} [{score['ci95_low']:.1f}, "
                f"{score['ci95_high']:.1f}] | {figures['network_calls']} | "
                f"{figures['rows_per_second']:.0f} |",
                flush=True,
            )
    print(f"\n{len(rows.prompts)} rows; torch {torch.__version__}, {platform.processor() or 'CPU'}")


if __name__ == "__main__":
    main()
