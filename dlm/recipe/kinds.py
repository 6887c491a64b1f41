"""What each kind of stage does, and what decides its data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlm.config.schema import StageConfig
from dlm.training.job import StageJob


def data_identity(stage: StageConfig) -> Any:
    """What decides the rows that a stage reads (hashes of files, settings of generators).

    Raises:
        UserError: A local file is missing.
    """
    if stage.kind == "evaluate":
        from dlm.evaluation.tasks import load_task

        tasks = [load_task(name) for name in stage.evaluation.tasks]
        from dlm.data.sources import source_identity

        return [
            task.identity()
            | {
                "source": source_identity(task.locate(stage.data.root)),
                "examples": task.examples(stage.data.root).identity(),
            }
            for task in tasks
        ]
    from dlm.data.sources import source_identity
    from dlm.training.sources import build_examples, build_sources, masks_prompts

    if stage.kind == "tokenizer":
        return [[source_identity(source) for source in group] for group in build_sources(stage)]
    # No setting says which side of a pair is learnt: the stage's kind does.
    both_sides = {"masked": "prompt and response"} if masks_prompts(stage) else {}
    sources = [recipe.sources if recipe else () for recipe in build_examples(stage)]
    return [
        [each.identity() | (both_sides if each.conditional else {}) for each in group]
        for group in sources
    ]


def execute(job: StageJob) -> dict[str, Any]:
    """Carry out one stage and return the metrics of its manifest."""
    if job.config.kind == "tokenizer":
        return train_tokenizer_stage(job)
    if job.config.kind == "generate":
        from dlm.recipe.generate_stage import generate_stage

        return generate_stage(job)
    if job.config.kind == "evaluate":
        from dlm.recipe.evaluate_stage import evaluate_stage

        return evaluate_stage(job)
    from dlm.training.train import train_stage

    return train_stage(job)


def train_tokenizer_stage(job: StageJob) -> dict[str, Any]:
    """Train the run's tokenizer and export it."""
    from dlm.data.prompts import Template, stream_examples
    from dlm.tokens.train import train_tokenizer
    from dlm.training.sources import build_bad_rows, build_sources

    bad_rows = build_bad_rows(job)
    template = Template.of("text", response=job.config.data.text)
    count = 0

    def texts() -> Iterator[str]:
        nonlocal count
        for source in build_sources(job.config, job.exports)[0]:
            for example in stream_examples(source, template, bad_rows=bad_rows):
                count += 1
                yield example.response
        bad_rows.finish()

    settings = job.config.tokenizer_training
    tokenizer = train_tokenizer(
        texts(), algorithm=settings.algorithm, vocab_size=settings.vocab_size,
        lowercase=settings.lowercase,
    )  # fmt: skip
    directory: Path = job.directory / "export"
    directory.mkdir(exist_ok=True)
    tokenizer.save_pretrained(directory)
    if bad_rows.count:
        print(f"{job.name}: {bad_rows.note()}", flush=True)
    skipped = {"skipped_rows": bad_rows.count} if bad_rows.count else {}
    return {"texts": count, "vocab_size": len(tokenizer), **skipped}
