"""dlm generate, dlm evaluate, dlm export."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from dlm.errors import UserError
from dlm.recipe.locate import LocatedModel, locate_model


def generate(options: argparse.Namespace) -> int:
    """Answer prompts on the terminal, or a file of them."""
    prompts = options.prompt or _read_prompts(Path(options.input))
    located = locate_model(options.model)

    from dlm.generation.generate import generate as generate_texts
    from dlm.training.quiet import quiet_libraries

    quiet_libraries()
    model = _open(located)
    settings = _settings(options, located)
    generation = generate_texts(model, prompts, settings)
    answers = [answer.text for answer in generation.answers]
    if options.output:
        with Path(options.output).open("w", encoding="utf-8") as file:
            for prompt, answer in zip(prompts, generation.answers, strict=True):
                row = {"prompt": prompt, "text": answer.text, "score": answer.score}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{len(answers)} answers in {options.output}")
    else:
        print("\n".join(answers))
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Score a model on tasks."""
    from dlm.evaluation.tasks import load_task

    tasks = [load_task(name) for name in options.tasks.split(",")]
    located = locate_model(options.model)

    from rich.console import Console

    from dlm.evaluation.evaluate import check_system, evaluate_system, read_task
    from dlm.evaluation.table import markdown_table, score_table
    from dlm.training.quiet import quiet_libraries

    quiet_libraries()
    rows = [read_task(task, root=options.data_root, limit=options.limit) for task in tasks]
    output = Path(options.output)
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty: give --output a new directory")
    model = _open(located)
    settings = _settings(options, located)
    check_system(located.name, model, settings)
    results = [
        evaluate_system(
            located.name, located.place, model, task_rows, settings,
            output / task_rows.task.name, bootstrap_samples=1000,
        )
        for task_rows in rows
    ]  # fmt: skip
    (output / "table.md").write_text(markdown_table(results, []), encoding="utf-8")
    Console(highlight=False).print(score_table(results))
    print(f"results: {output}")
    return 0


def export(options: argparse.Namespace) -> int:
    """Copy a finished model out of its run."""
    located = locate_model(options.model)
    target = Path(options.to)
    if target.exists():
        raise UserError(f"{target} is there already: give --to a new directory")
    if not Path(located.place).is_dir():
        raise UserError(f"{options.model} is not a run or a stage on this machine")
    shutil.copytree(located.place, target)
    print(f"{located.name}: {target} (a Hugging Face directory: AutoModelForMaskedLM loads it)")
    return 0


def _open(located: LocatedModel) -> Any:
    import torch

    from dlm.generation.model import open_model

    return open_model(located.place, device="cuda" if torch.cuda.is_available() else "cpu")


def _settings(options: argparse.Namespace, located: LocatedModel) -> Any:
    """The stage's own generation settings, with what the command line says on top."""
    from dlm.config.schema import GenerationConfig
    from dlm.diffusion.sampling.samplers import get_sampler
    from dlm.training.builders import generation_settings

    names = ("sampler", "num_iterations", "length_beam", "beam_size", "length")
    given = {name: getattr(options, name, None) for name in names}
    config = located.stage.generation if located.stage else GenerationConfig()
    settings = generation_settings(config, **{k: v for k, v in given.items() if v is not None})
    for name in ("num_iterations", "length_beam", "beam_size"):
        if getattr(settings, name) < 1:
            raise UserError(f"{name} must be at least 1, not {getattr(settings, name)}")
    try:
        get_sampler(settings.sampler)
    except ValueError as error:
        raise UserError(str(error)) from error
    return settings


def _read_prompts(path: Path) -> list[str]:
    from dlm.data.sources import Source, read_rows

    rows = read_rows(Source(split="", path=path))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("prompt"), str):
            raise UserError(f"{path}, row {number}: no text field 'prompt': add it")
    return [row["prompt"] for row in rows]
