"""What in a recipe only the layers below know: models, sources, templates, samplers, tasks."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from dlm.config.checks.every_stage import reads
from dlm.config.references import is_there, sources_read, stage_references
from dlm.config.schema import RecipeConfig, StageConfig
from dlm.errors import UserError
from dlm.generation.settings import GenerationSettings
from dlm.models.checkpoint_files import instead_of_weights

_SAMPLER_OPTIONS = ("temperature", "top_k", "top_p", "score", "threshold", "entropy_bound",
                    "end_last")  # fmt: skip


def unknown_names(recipe: RecipeConfig) -> list[str]:
    """One line per source, template, sampler and task that does not exist or is none, and per
    model directory that cannot be used."""
    lines: list[str] = []
    for name, stage in recipe.stages.items():
        lines += [f"stages.{name}.{line}" for line in _of_stage(stage, recipe)]
    return list(dict.fromkeys(lines))


def _of_stage(stage: StageConfig, recipe: RecipeConfig) -> Iterator[str]:
    yield from _models(stage, recipe)
    if reads(stage.kind, "data"):
        yield from _sources(stage)
        yield from _templates(stage)
        yield from _unknown_rows(stage)
    if reads(stage.kind, "generation.sampler"):
        yield from _samplers(stage)
    if stage.kind == "evaluate":
        yield from _tasks(stage, recipe)


def _models(stage: StageConfig, recipe: RecipeConfig) -> Iterator[str]:
    """Directories of models and tokenizers; what earlier stages will write is not there yet."""
    named = dict(stage_references(stage))
    if reads(stage.kind, "model.pretrained") and stage.init_from is None:
        named["model.pretrained"] = stage.model.pretrained or ""
    for key, value in named.items():
        directory = Path(value).expanduser()
        if not value or value in recipe.stages or not directory.is_dir():
            continue
        if key != "tokenizer" and not (directory / "config.json").exists():
            if (directory / "adapter_config.json").exists():
                yield f"{key}: {value!r}: {instead_of_weights(directory)}"
            elif not key.startswith("evaluation."):  # a run has no such file
                yield f"{key}: {value!r} holds no config.json: give a model directory"
            continue
        # torch, which models are made of, is left alone where no directory is named.
        from dlm.models.build import check_model_directory, load_tokenizer

        try:
            if key == "tokenizer":
                load_tokenizer(directory, trust_remote_code=stage.model.trust_remote_code)
            else:
                trusted = stage.model.trust_remote_code
                most = check_model_directory(directory, trust_remote_code=trusted)
                if key == "model.pretrained" and stage.data.max_length > most:
                    yield (
                        f"data.max_length: {stage.data.max_length} is more than the {most} "
                        f"positions of {value!r}: lower it"
                    )
        except UserError as error:
            yield f"{key}: {error}"


def _unknown_rows(stage: StageConfig) -> Iterator[str]:
    """Local rows that the tokenizer of a local model mostly does not know, by the first of them."""
    directory = Path(stage.model.pretrained or "").expanduser()
    if stage.init_from or not stage.model.pretrained or not directory.is_dir():
        return
    from dlm.data.modules import first_texts
    from dlm.data.rows.encoding import encode_responses, unknown_tokens
    from dlm.models.build import load_tokenizer
    from dlm.training.rows_report import unknown_reason
    from dlm.training.sources import build_examples

    try:
        train, _ = build_examples(stage)
        paths = [source.source.path for source in train.sources]
        if not paths or any(path is None or not is_there(path) for path in paths):
            return
        trusted = stage.model.trust_remote_code
        tokenizer = load_tokenizer(directory, trust_remote_code=trusted)
        rows = encode_responses(tokenizer, first_texts(train))
    except UserError:
        return  # said where it is looked at, or by the stage
    tokens = max(1, sum(map(len, rows)))
    reason = unknown_reason(tokenizer, unknown_tokens(tokenizer, rows) / tokens)
    if reason is not None:
        yield f"data.train: of the first rows {reason}"


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
        usual = generation["sampler"] == GenerationSettings.sampler
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
