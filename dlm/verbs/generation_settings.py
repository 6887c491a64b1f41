"""The generation settings that a command line asks for, on top of those of the model's stage."""

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlm.errors import UserError
from dlm.recipe.locate import LocatedModel

if TYPE_CHECKING:
    from dlm.generation.settings import GenerationSettings

OPTION_OF = {"sampler": "--sampler", "num_iterations": "--num-iterations",
             "length_beam": "--length-beam", "rerank": "--rerank", "length": "--length",
             "canvas_length": "--canvas-length", "temperature": "--temperature",
             "threshold": "--threshold", "guidance": "--guidance",
             "block_length": "--block-length", "min_length": "--min-length",
             "end_penalty": "--end-penalty", "prompt_cache": "--prompt-cache",
             "seed": "--seed", "beam_size": "--beam-size"}  # fmt: skip
"""Settings that have an option of their own; the others are given with --set."""
_AUTOREGRESSIVE_ONLY = ("beam_size", "length_penalty", "max_new_tokens")
_OF_SEARCH = ("beam_size", "length_penalty")
_OF_BOTH = ("min_length", "end_penalty", "batch_tokens")
_OF_DRAWN_TEXTS = ("temperature", "top_k", "top_p", "seed")
_OF_PREDICTED_LENGTHS = ("length_beam", "rerank")
_OF_CANVAS = ("canvas_length", "end_last", "end_penalty")
_OF_LENGTHS = ("length", "min_length", *_OF_PREDICTED_LENGTHS, *_OF_CANVAS)


@dataclass(frozen=True)
class Asked:
    """Settings that were given, by the setting's name."""

    values: dict[str, Any]
    """Setting -> its value."""
    written: dict[str, str]
    """Setting -> how it was given, for messages."""


def asked_settings(options: argparse.Namespace) -> Asked:
    """What options and ``--set generation.KEY=VALUE`` say; of equal keys of --set the last holds.

    Raises:
        UserError: A --set is malformed, unknown, of a wrong type or range, or an option says the
            same setting.
    """
    given = {name: getattr(options, name, None) for name in OPTION_OF}
    values = {name: value for name, value in given.items() if value is not None}
    written = {name: OPTION_OF[name] for name in values}
    for text in getattr(options, "settings", None) or []:
        name, value = _set(text)
        if name in values and written[name] == OPTION_OF.get(name):
            raise UserError(f"--set {text} and {OPTION_OF[name]} say the same setting: remove one")
        values[name], written[name] = value, f"--set generation.{name}"
    return Asked(values, written)


def _set(text: str) -> tuple[str, Any]:
    """Name and value of a setting that is written as in a recipe."""
    from dlm.config.loading import typed_settings
    from dlm.config.ranges import RANGE_OF
    from dlm.config.shipped import parse_override
    from dlm.generation.settings import GenerationSettings

    try:
        keys, value = parse_override(text)
    except ValueError as error:
        example = "--set takes generation.KEY=VALUE, such as generation.end_last=true"
        raise UserError(f"--set {text}: {example}") from error
    if len(keys) != 2 or keys[0] != "generation":
        name = keys[0] if len(keys) == 1 else "KEY"
        raise UserError(
            f"--set {text}: settings of the section generation alone are given here, as "
            f"generation.{name}=VALUE"
        )
    typed, problems = typed_settings(GenerationSettings, {keys[1]: value}, "generation")
    if problems:
        raise UserError(f"--set {text}: {problems[0]}")
    found = getattr(typed, keys[1])
    allowed = RANGE_OF.get(f"generation.{keys[1]}")
    if allowed is not None and isinstance(found, int | float) and not allowed.fits(found):
        raise UserError(f"--set {text}: must be {allowed}")
    return keys[1], found


def chosen_settings(
    options: argparse.Namespace, located: LocatedModel, model: Any, *, references: bool = True
) -> Any:
    """The stage's own generation settings, with what the command line says on top, and what they
    leave open decided by the model."""
    asked = asked_settings(options)
    _refuse_settings_of_the_other_kind(options.model, asked, model)
    from dlm.config.ranges import option_outside
    from dlm.generation.lengths import settled

    config = located.stage.generation if located.stage else _settings_of_export(located.place)
    chosen = dict(asked.values)
    if chosen.get("sampler", config.sampler) != config.sampler:
        # The stage's iterations are those of the stage's sampler.
        chosen = {"num_iterations": None, **chosen}
    if config.length == "oracle" and not references:
        chosen = {"length": None, **chosen}
    if problem := option_outside(chosen):  # of the harness, whose arguments are no options
        raise UserError(problem)
    settings = replace(config, **chosen)
    settings.check_parts()
    settings = settled(model, settings)
    if model.kind == "diffusion":
        _refuse_settings_of_other_lengths(asked, settings.length)
    return settings


def refuse_lengths_of_infilling(options: argparse.Namespace) -> None:
    """A text to fill in says itself how long its spans are."""
    asked = asked_settings(options)
    for name in _OF_LENGTHS:
        if name in asked.values:
            raise UserError(
                f"{asked.written[name]} would be ignored: the masks of a text to fill in say how "
                "many tokens are missing; remove it"
            )


def _settings_of_export(place: str) -> "GenerationSettings":
    """Those that ``dlm export`` wrote beside the weights; the defaults where there are none."""
    from dlm.generation.model import read_description
    from dlm.generation.settings import GenerationSettings

    given = read_description(Path(place)).generation or {}
    known = {field.name for field in fields(GenerationSettings)}
    if unknown := sorted(set(given) - known):
        raise UserError(
            f"dlm.json in {place} has generation settings that are not known here "
            f"({', '.join(unknown)}): use the version of dlm that wrote it"
        )
    return GenerationSettings(**given)


def _refuse_settings_of_other_lengths(asked: Asked, length: str | None) -> None:
    """A setting about lengths that lengths from elsewhere never read."""
    unread: tuple[str, ...] = _OF_PREDICTED_LENGTHS if length == "canvas" else _OF_CANVAS
    unread += ("min_length",) if length == "oracle" else ()
    for name in unread:
        if asked.values.get(name) is not None:
            raise UserError(
                f"{asked.written[name]} would be ignored: lengths are from --length {length}; "
                "remove it, or choose another --length"
            )


def _refuse_settings_of_the_other_kind(place: str, asked: Asked, opened: Any) -> None:
    """A setting that the model's way of generating never reads."""
    from dlm.generation.settings import GenerationSettings

    every = [field.name for field in fields(GenerationSettings)]
    own, model = [name for name in every if name not in _AUTOREGRESSIVE_ONLY], "a diffusion model"
    if opened.kind != "diffusion":
        own, model = [*_AUTOREGRESSIVE_ONLY, *_OF_BOTH], "an autoregressive model"
        if opened.texts:
            own += _OF_DRAWN_TEXTS
            for name in _OF_SEARCH if asked.values.get("temperature") else ():
                if name in asked.values:
                    raise UserError(
                        f"{asked.written[name]} would be ignored: with a temperature tokens are "
                        "drawn, nothing is searched for; remove one of them"
                    )
    for name, written in asked.written.items():
        if name not in own:
            choices = [OPTION_OF[other] for other in OPTION_OF if other in own]
            raise UserError(
                f"{written} would be ignored: {place} is {model}, which reads "
                f"{', '.join(choices)}; remove it"
            )
