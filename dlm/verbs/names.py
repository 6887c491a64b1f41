"""What in a recipe only the layers below know: generators, templates, samplers and tasks."""

from collections.abc import Iterator

from dlm.config.checks import reads
from dlm.config.schema import GenerationConfig, RecipeConfig, StageConfig
from dlm.errors import UserError


def unknown_names(recipe: RecipeConfig) -> list[str]:
    """One line per generator, template, sampler and task that does not exist or is none."""
    lines: list[str] = []
    for name, stage in recipe.stages.items():
        lines += [f"stages.{name}.{line}" for line in _of_stage(stage)]
    return list(dict.fromkeys(lines))


def _of_stage(stage: StageConfig) -> Iterator[str]:
    if reads(stage.kind, "data"):
        yield from _generators(stage)
        yield from _templates(stage)
    if reads(stage.kind, "generation.sampler"):
        yield from _samplers(stage)
    if stage.kind == "evaluate":
        from dlm.evaluation.tasks import load_tasks

        try:
            load_tasks(stage.evaluation.tasks)
        except UserError as error:
            yield f"evaluation.tasks: {error}"


def _generators(stage: StageConfig) -> Iterator[str]:
    from dlm.data.sources import source_identity
    from dlm.training.sources import build_sources

    for place, sources in zip(("train", "validation"), build_sources(stage), strict=True):
        for index, source in enumerate(sources):
            if source.generator is not None:
                try:
                    source_identity(source)
                except UserError as error:
                    yield f"data.{place}[{index}]: {error}"


def _templates(stage: StageConfig) -> Iterator[str]:
    from dlm.data.prompts import Template

    for key in ("prompt", "response", "text"):
        try:
            Template(getattr(stage.data, key) or "", "").fields  # noqa: B018 - it is parsed
        except UserError as error:
            yield f"data.{key}: {error}"


def _samplers(stage: StageConfig) -> Iterator[str]:
    named = {"generation.sampler": stage.generation.sampler}
    for system, config in stage.evaluation.systems.items() if stage.kind == "evaluate" else ():
        if "sampler" in config.generation:
            named[f"evaluation.systems.{system}.generation.sampler"] = config.generation["sampler"]
    for key, sampler in named.items():
        if sampler == GenerationConfig.sampler:
            continue  # torch, which the samplers are made of, is left alone
        from dlm.diffusion.sampling.samplers import get_sampler

        try:
            get_sampler(sampler)
        except ValueError as error:
            yield f"{key}: {error}"
