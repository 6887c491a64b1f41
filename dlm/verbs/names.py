"""What in a recipe only the layers below know: sources, templates, samplers and tasks."""

from collections.abc import Iterator
from dataclasses import asdict

from dlm.config.checks import reads
from dlm.config.references import is_there, sources_read
from dlm.config.schema import GenerationConfig, RecipeConfig, StageConfig
from dlm.errors import UserError

_SAMPLER_OPTIONS = ("temperature", "top_k", "top_p", "score", "threshold", "entropy_bound",
                    "end_last")  # fmt: skip


def unknown_names(recipe: RecipeConfig) -> list[str]:
    """One line per source, template, sampler and task that does not exist or is none."""
    lines: list[str] = []
    for name, stage in recipe.stages.items():
        lines += [f"stages.{name}.{line}" for line in _of_stage(stage, recipe)]
    return list(dict.fromkeys(lines))


def _of_stage(stage: StageConfig, recipe: RecipeConfig) -> Iterator[str]:
    if reads(stage.kind, "data"):
        yield from _sources(stage)
        yield from _templates(stage)
    if reads(stage.kind, "generation.sampler"):
        yield from _samplers(stage)
    if stage.kind == "evaluate":
        yield from _tasks(stage, recipe)


def _tasks(stage: StageConfig, recipe: RecipeConfig) -> Iterator[str]:
    from dlm.evaluation.tasks import load_tasks
    from dlm.verbs.systems import unfit_systems

    try:
        tasks = load_tasks(stage.evaluation.tasks)
    except UserError as error:
        yield f"evaluation.tasks: {error}"
        return
    changes = asdict(stage.evaluation.likelihood)
    asked = any(value is not None for value in changes.values())
    if asked and all(task.kind == "generation" for task in tasks):
        yield "evaluation.likelihood: ignored setting: no task estimates a likelihood; remove it"
    try:
        for task in tasks:
            task.with_likelihood(changes)
    except UserError as error:
        yield f"evaluation.likelihood: {error}"
    yield from unfit_systems(stage, recipe, tasks)


def _sources(stage: StageConfig) -> Iterator[str]:
    """Generators, and files of no kind that is read; ``missing_files`` names those not there."""
    from dlm.data.sources import reading_of, source_files, source_identity
    from dlm.training.sources import build_sources

    for place, sources in zip(("train", "validation"), build_sources(stage), strict=True):
        for index, source in enumerate(sources):
            try:
                if source.generator is not None:
                    source_identity(source)
                elif source.path is not None and is_there(source.path):
                    for file in source_files(source.path, source.format):
                        reading_of(file, source)
            except UserError as error:
                yield f"data.{place}[{index}]: {error}"


def _templates(stage: StageConfig) -> Iterator[str]:
    from dlm.data.prompts import Template

    data = stage.data
    texts = {f"data.{key}": getattr(data, key) for key in ("prompt", "response", "text")}
    for index, template in enumerate(data.templates):
        texts |= {
            f"data.templates[{index}].{key}": getattr(template, key)
            for key in ("prompt", "response")
        }
    for place, sources in sources_read(stage).items():
        for index, source in enumerate(sources):
            texts |= {
                f"data.{place}[{index}].{key}": getattr(source, key)
                for key in ("prompt", "response")
            }
    for name, text in texts.items():
        try:
            Template(text or "", "").fields  # noqa: B018 - it is parsed
        except UserError as error:
            yield f"{name}: {error}"


def _samplers(stage: StageConfig) -> Iterator[str]:
    own = asdict(stage.generation)
    named = {"generation": own}
    for system, config in stage.evaluation.systems.items() if stage.kind == "evaluate" else ():
        if any(config.generation.get(name) is not None for name in ("sampler", *_SAMPLER_OPTIONS)):
            named[f"evaluation.systems.{system}.generation"] = own | config.generation
    for key, generation in named.items():
        options = {name: generation[name] for name in _SAMPLER_OPTIONS}
        usual = generation["sampler"] == GenerationConfig.sampler
        if usual and all(value is None for value in options.values()):
            continue  # torch, which the samplers are made of, is left alone
        from dlm.diffusion.sampling.samplers import customised, get_sampler

        try:
            get_sampler(generation["sampler"])
        except ValueError as error:
            yield f"{key}.sampler: {error}"
            continue
        try:
            customised(generation["sampler"], **options)
        except ValueError as error:
            yield f"{key}: {error}"
