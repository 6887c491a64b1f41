"""A model as somebody uses it: opened, and with settings of its own and those that were asked for.

For the command line, the harness and Python alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dlm.errors import UserError
from dlm.files import as_python
from dlm.generation.settings import (
    AUTOREGRESSIVE_ONLY,
    OF_BOTH_KINDS,
    OF_CANVAS,
    GenerationSettings,
)
from dlm.recipe.locate import LocatedModel

if TYPE_CHECKING:
    from dlm.generation.model import GenerativeModel

_OF_SEARCH = ("beam_size", "length_penalty")
_OF_DRAWN_TEXTS = ("temperature", "top_k", "top_p", "seed")
_OF_PREDICTED_LENGTHS = ("length_beam", "rerank")
_OF_LENGTHS = ("length", "min_length", *_OF_PREDICTED_LENGTHS, *OF_CANVAS)


@dataclass(frozen=True)
class Asked:
    """Settings that were given, by the setting's name."""

    values: Mapping[str, Any]
    """Setting -> its value."""
    written: Mapping[str, str]
    """Setting -> how it was given, for messages."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Setting -> what it is called where it can be given; of those that are missing, its name."""

    @classmethod
    def by_name(cls, values: Mapping[str, Any]) -> Self:
        """Settings that were given by their own names; None: not given.

        Raises:
            UserError: A name is unknown, or a value is of another type or outside its range.
        """
        from dlm.config.other_names import own_names

        told = {name: as_python(value) for name, value in values.items() if value is not None}
        given = own_names({"generation": told})["generation"]
        return cls({name: checked_setting(name, value) for name, value in given.items()},
                   {name: name for name in given})  # fmt: skip

    def name(self, setting: str) -> str:
        """What a setting is called, given or not."""
        return self.names.get(setting, setting)


def check_utf8(text: str, place: str) -> None:
    """Refuse what no file in UTF-8 can hold: bytes that a terminal passed on as they were, or half
    of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place} is not UTF-8: convert it to UTF-8") from error


def refuse_empty(prompts: Sequence[str], places: Sequence[str]) -> None:
    """Only a model of texts writes without being told how to begin.

    Raises:
        UserError: A prompt is blank.
    """
    for prompt, place in zip(prompts, places, strict=True):
        if not prompt.strip():
            raise UserError(f"{place} is empty: give it some text")


def refuse_lengths_of_infilling(written: Mapping[str, str]) -> None:
    """A text to fill in says itself how long its spans are.

    Args:
        written: Setting -> how it was given, for messages.

    Raises:
        UserError: A setting about lengths was given.
    """
    for name in _OF_LENGTHS:
        if name in written:
            raise UserError(
                f"{written[name]} would be ignored: the masks of a text to fill in say how many "
                "tokens are missing; remove it"
            )


def refuse_what_a_length_says(asked: Asked, length: int | str) -> None:
    """Where every answer has as many tokens, nothing else about lengths is read.

    Raises:
        UserError: A setting about lengths was given beside it.
    """
    for name in _OF_LENGTHS:
        if name in asked.values:
            raise UserError(
                f"{asked.written[name]} would be ignored: length={length} says how many tokens "
                "every answer has; remove one of them"
            )


def checked_setting(name: str, value: Any) -> Any:
    """The value of a setting as its type, as recipes read it.

    Raises:
        UserError: There is no such setting, or the value is of another type or outside its range.
    """
    from dlm.config.loading import typed_settings
    from dlm.config.ranges import RANGE_OF

    typed, problems = typed_settings(GenerationSettings, {name: value}, "generation")
    if problems:
        raise UserError(str(problems[0]))
    found = getattr(typed, name)
    allowed = RANGE_OF.get(f"generation.{name}")
    if allowed is not None and isinstance(found, int | float) and not allowed.fits(found):
        raise UserError(f"{name} must be {allowed}, not {found}")
    return found


def open_located(
    located: LocatedModel, device: str | None = None, *, trust_remote_code: bool = False
) -> "GenerativeModel":
    """The model of a place.

    Args:
        located: Where it lies.
        device: By default this rank's GPU if there is one.
        trust_remote_code: Run code that comes with the model; its run's recipe may ask for it too.

    Raises:
        UserError: It cannot be opened.
    """
    from dlm.distributed.joining import own_device
    from dlm.generation.model import open_model

    try:
        return open_model(
            located.place, device=device or own_device(cpu=False),
            trust_remote_code=trust_remote_code or located.trusted,
        )  # fmt: skip
    except UserError as error:
        if Path(located.place).is_dir():
            raise
        raise UserError(
            f"{located.place} is no directory here, and as a hub name: {str(error).rstrip('.')}. "
            "Give a run, a stage, a model directory or a hub name (owner/model)"
        ) from error


def chosen_settings(
    asked: Asked, located: LocatedModel, model: "GenerativeModel", *, references: bool = True
) -> GenerationSettings:
    """The stage's own generation settings, with what was asked for on top, and what they leave open
    decided by the model.

    Args:
        asked: What was given.
        located: Where the model lies.
        model: The model.
        references: Whether there are any, whose lengths the stage's settings may ask for.

    Raises:
        UserError: A setting has an impossible value, or would be ignored.
    """
    from dlm.generation.lengths import settled

    _refuse_settings_of_the_other_kind(located, asked, model)
    own = located.stage.generation if located.stage else _settings_of_export(located.place)
    chosen = dict(asked.values)
    if chosen.get("sampler", own.sampler) != own.sampler:
        # The stage's iterations are those of the stage's sampler.
        chosen = {"num_iterations": None, **chosen}
    if own.length == "oracle" and not references:
        chosen = {"length": None, **chosen}
    settings = replace(own, **chosen)
    settings.check_parts()
    settings = settled(model, settings)
    if model.kind == "diffusion":
        _refuse_settings_of_other_lengths(asked, settings.length)
    return settings


def check_answerable(
    asked: Asked,
    located: LocatedModel,
    model: "GenerativeModel",
    settings: GenerationSettings,
    prompts: Sequence[str],
    places: Sequence[str],
    *,
    without_lengths: str | None = None,
) -> None:
    """Refuse a model without lengths, and a prompt that leaves no room for an answer.

    Args:
        asked: What was given.
        located: Where the model lies.
        model: The model.
        settings: As :func:`chosen_settings` gives them.
        prompts: What is asked.
        places: What each is called in a message.
        without_lengths: The remedy where nothing says how long answers are; None: the command
            line's.

    Raises:
        UserError: Nothing says how long answers are, or a prompt is too long.
    """
    from dlm.generation.lengths import longest_prompt

    on_canvas = model.kind == "diffusion" and settings.length == "canvas"
    if model.kind == "diffusion" and not on_canvas and model.length_predictor is None:
        stage = f"a stage {{kind: length, init_from: {located.name.lstrip('0123456789_')}}}"
        how = f"add {stage} to its recipe" if located.stage else "train one with a `length` stage"
        remedy = without_lengths or (
            f"name its run or a finished `length` stage, or {how}"
            + (f", or use {asked.name('length')} canvas" if model.canvas_length else "")
        )
        raise UserError(
            f"{located.given} has no length predictor, and an answer's length must come from "
            f"somewhere: {remedy}"
        )
    longest = longest_prompt(model, settings)
    canvas = f" behind which a canvas of {settings.canvas_length} is decoded," if on_canvas else ""
    for ids, place in zip(model.heads(prompts), places, strict=True):
        if len(ids) > longest:
            raise UserError(
                f"{place} has {len(ids)} tokens,{canvas} which leaves no room for an answer in "
                f"{model.backbone.room_text}: shorten it"
                + (f", or lower {asked.name('canvas_length')}" if on_canvas else "")
            )


def _settings_of_export(place: str) -> GenerationSettings:
    """Those that ``dlm export`` wrote beside the weights; the defaults where there are none."""
    from dlm.generation.model import read_description

    given = read_description(Path(place)).generation or {}
    known = {item.name for item in fields(GenerationSettings)}
    if unknown := sorted(set(given) - known):
        raise UserError(
            f"dlm.json in {place} has generation settings that are not known here "
            f"({', '.join(unknown)}): use the version of dlm that wrote it"
        )
    try:
        return GenerationSettings(
            **{key: checked_setting(key, value) for key, value in given.items()}
        )
    except UserError as error:
        raise UserError(
            f"dlm.json in {place} is damaged ({error}): take it from where it was written, or "
            "export the model again"
        ) from error


def _refuse_settings_of_other_lengths(asked: Asked, length: str | None) -> None:
    """A setting about lengths that lengths from elsewhere never read."""
    unread: tuple[str, ...] = _OF_PREDICTED_LENGTHS if length == "canvas" else OF_CANVAS
    unread += ("min_length",) if length == "oracle" else ()
    for name in unread:
        if asked.values.get(name) is not None:
            raise UserError(
                f"{asked.written[name]} would be ignored: lengths are from {asked.name('length')} "
                f"{length}; remove it, or choose another {asked.name('length')}"
            )


def _refuse_settings_of_the_other_kind(
    located: LocatedModel, asked: Asked, opened: "GenerativeModel"
) -> None:
    """A setting that the model's way of generating never reads."""
    every = [item.name for item in fields(GenerationSettings)]
    own, model = [name for name in every if name not in AUTOREGRESSIVE_ONLY], "a diffusion model"
    if opened.kind != "diffusion":
        own, model = [*AUTOREGRESSIVE_ONLY, *OF_BOTH_KINDS], "an autoregressive model"
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
            choices = [asked.name(other) for other in asked.names or own if other in own]
            raise UserError(
                f"{written} would be ignored: {located.given} is {model}, which reads "
                f"{', '.join(choices)}; remove it"
            )
