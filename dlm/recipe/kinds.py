"""What each kind of stage does, and what decides its data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlm.config.job import StageJob
from dlm.config.schema import StageConfig


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
            task.identity() | {"source": source_identity(task.locate(stage.data.root))}
            for task in tasks
        ]
    from dlm.data.sources import source_identity
    from dlm.training.sources import build_sources

    return [[source_identity(source) for source in group] for group in build_sources(stage)]


def execute(job: StageJob) -> dict[str, Any]:
    """Carry out one stage and return the metrics of its manifest."""
    if job.config.kind == "tokenizer":
        return train_tokenizer_stage(job)
    if job.config.kind == "evaluate":
        from dlm.recipe.evaluate_stage import evaluate_stage

        return evaluate_stage(job)
    from dlm.training.train import train_stage

    return train_stage(job)


def train_tokenizer_stage(job: StageJob) -> dict[str, Any]:
    """Train the run's tokenizer and export it."""
    from dlm.data.prompts import Template, stream_examples
    from dlm.data.tokenizer import train_tokenizer
    from dlm.training.sources import build_sources

    template = Template.of("text", response=job.config.data.text)
    count = 0

    def texts() -> Iterator[str]:
        nonlocal count
        for source in build_sources(job.config)[0]:
            for example in stream_examples(source, template):
                count += 1
                yield example.response

    settings = job.config.tokenizer_training
    tokenizer = train_tokenizer(
        texts(), algorithm=settings.algorithm, vocab_size=settings.vocab_size,
        lowercase=settings.lowercase,
    )  # fmt: skip
    directory: Path = job.directory / "export"
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory)
    return {"texts": count, "vocab_size": len(tokenizer)}
