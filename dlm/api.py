"""Use a model from Python: ``dlm.load(RUN)``.

What is asked as a list is answered as a list, and one text by one answer. Settings have the names
of section ``generation`` of a recipe; those that are not given are the model's own, as for
``dlm generate``. Answers are a function of what is asked and of the settings: neither batches nor
the order of a list change them. Errors are ``dlm.UserError``, a ``ValueError``.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast, get_args, overload

from dlm import errors
from dlm.files import as_python
from dlm.generation.answers import Answers, answer_prompts, fill_in
from dlm.generation.infill import parse_infill
from dlm.generation.lengths import of_one_length
from dlm.generation.likelihood import conditional_bounds
from dlm.generation.model import GenerativeModel
from dlm.generation.scored_rows import Estimator, LikelihoodSettings
from dlm.generation.settings import GenerationSettings, LengthSource
from dlm.generation.trace_place import trace_place
from dlm.recipe.locate import LocatedModel, locate_model
from dlm.recipe.serving import (
    Asked,
    check_answerable,
    check_utf8,
    chosen_settings,
    open_located,
    refuse_empty,
    refuse_lengths_of_infilling,
    refuse_what_a_length_says,
)


class UserError(errors.UserError, ValueError):
    """What is asked for is impossible; the message names what and says what to do."""


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """Lets callers catch ``ValueError``, as of any library."""
    try:
        yield
    except UserError:
        raise
    except errors.DlmError as error:
        raise UserError(str(error)) from error


@dataclass(frozen=True)
class Answer:
    """What a model wrote."""

    text: str
    """The answer, or the completed text."""
    score: float
    """How sure the model is of it: mean log-probability of its tokens, in nats."""
    spans: tuple[str, ...] = ()
    """Of a completed text: what was written, one text a mask."""

    def __str__(self) -> str:
        """The text."""
        return self.text


@dataclass(frozen=True)
class Score:
    """How likely a response is, given its prompt and its length."""

    log_likelihood: float
    """Of a diffusion model a lower bound, in nats; of an autoregressive one the number itself."""
    standard_error: float
    """Of the bound's estimate, in nats; 0 where nothing is drawn."""
    tokens: int
    """Tokens of the response."""


class Model:
    """A model that is open; made by :func:`load`."""

    def __init__(self, located: LocatedModel, opened: GenerativeModel) -> None:
        self._located, self.opened = located, opened

    def __repr__(self) -> str:
        """Its kind and where it is from."""
        return f"<dlm model, {self.opened.kind}, {self._located.place}>"

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, as transformers has it."""
        return self.opened.tokenizer

    @overload
    def generate(
        self, prompts: str, *, length: int | str | None = None, **settings: Any
    ) -> Answer: ...
    @overload
    def generate(
        self, prompts: Sequence[str], *, length: int | str | None = None, **settings: Any
    ) -> list[Answer]: ...
    @_as_value_errors()
    def generate(
        self, prompts: str | Sequence[str], *, length: int | str | None = None, **settings: Any
    ) -> Answer | list[Answer]:
        """Answer prompts.

        The n-th time of an equal prompt is answered with the draws of ``seed + n - 1``, where the
        sampler draws; an autoregressive model of texts has other draws for it too, which are its
        own.

        Args:
            prompts: One, or a list.
            length: Tokens of every answer; or where lengths are from: predicted or canvas.
            settings: Of generation (``num_iterations``, ``sampler``, ``temperature``, ``seed``
                ...); the model's own where not given.

        Raises:
            UserError: A setting is unknown, impossible or would be ignored; a prompt is empty or
                too long; the model has no lengths and none is given.
        """
        answers = self._answers(prompts, length, settings, record=False)
        found = [Answer(row["text"], row["score"]) for row in answers.rows]
        return found[0] if isinstance(prompts, str) else found

    @overload
    def infill(self, texts: str, *, prompts: str | None = None, **settings: Any) -> Answer: ...
    @overload
    def infill(
        self, texts: Sequence[str], *, prompts: Sequence[str] | None = None, **settings: Any
    ) -> list[Answer]: ...
    @_as_value_errors()
    def infill(
        self,
        texts: str | Sequence[str],
        *,
        prompts: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> Answer | list[Answer]:
        """Complete texts with ``[MASK]`` (one token) or ``[MASK:n]`` (n of them) anywhere.

        Args:
            texts: One, or a list; the rest of a text stays to the letter.
            prompts: What each text answers; None: they stand alone.
            settings: As of :meth:`generate`.

        Raises:
            UserError: A text has no mask, a setting would be ignored, or the model writes from left
                to right.
        """
        if self.opened.kind == "autoregressive":
            raise UserError(f"{self._located.given} writes from left to right, and has no masks")
        templates = [
            parse_infill(text, place=f"texts[{i}]") for i, text in enumerate(_texts(texts, "texts"))
        ]
        given = None if prompts is None else self._prompts(prompts)
        if given is not None and len(given) != len(templates):
            raise UserError(f"{len(given)} prompts for {len(templates)} texts: one each, or none")
        said = {name: name for name, value in settings.items() if value is not None}
        refuse_lengths_of_infilling(said)
        chosen = self._settings(Asked.by_name(settings))
        answers = fill_in(self.opened, templates, given, chosen, record=False)
        found = [Answer(row["text"], row["score"], tuple(row["spans"])) for row in answers.rows]
        return found[0] if isinstance(texts, str) else found

    @overload
    def score(  # type: ignore[overload-overlap]  # a text is a sequence of texts
        self, prompts: str, responses: str, *, estimator: str = ..., samples: int = ...,
        seed: int = ...,
    ) -> Score: ...  # fmt: skip
    @overload
    def score(
        self, prompts: Sequence[str], responses: Sequence[str], *, estimator: str = ...,
        samples: int = ..., seed: int = ...,
    ) -> list[Score]: ...  # fmt: skip
    @_as_value_errors()
    def score(
        self,
        prompts: str | Sequence[str],
        responses: str | Sequence[str],
        *,
        estimator: str = "exactly_l",
        samples: int = 128,
        seed: int = 0,
    ) -> Score | list[Score]:
        """How likely responses are behind their prompts.

        Args:
            prompts: One, or one a response.
            responses: What is scored.
            estimator: exactly_l, bernoulli or chain_rule (docs/evaluation.md).
            samples: Draws of each estimate, at least 2.
            seed: Of the draws.

        Raises:
            UserError: A text is empty, a pair is too long, an argument is impossible.
        """
        if isinstance(prompts, str) != isinstance(responses, str):
            raise UserError("prompts and responses must both be a text, or both be lists")
        asked, given = _texts(prompts, "prompts"), _texts(responses, "responses")
        if len(asked) != len(given):
            raise UserError(f"{len(asked)} prompts for {len(given)} responses: one each")
        how = _likelihood(estimator, samples, seed)
        # Each is drawn as if it were alone.
        bounds = conditional_bounds(self.opened, asked, given, how, row_ids=[0] * len(given))
        found = [Score(-b.nats.value, b.nats.standard_error, b.tokens) for b in bounds]
        return found[0] if isinstance(responses, str) else found

    @_as_value_errors()
    def trace(
        self, prompt: str, place: str | os.PathLike[str], *, length: int | str | None = None,
        **settings: Any,
    ) -> Answer:  # fmt: skip
        """Answer a prompt, and write how the answer came about.

        Args:
            prompt: What is asked.
            place: A file: ``.html`` is a page that replays the canvas, ``.svg`` a moving picture,
                ``.jsonl`` a line for each iteration.
            length: As of :meth:`generate`.
            settings: As of :meth:`generate`.

        Raises:
            UserError: As :meth:`generate`; the file's name says no form.
        """
        if not isinstance(prompt, str):
            raise UserError(
                f"prompt is {type(prompt).__name__}, not text: a trace is of one answer"
            )
        target = trace_place(_path(place), said=f"place={os.fspath(place)!r}", others={})
        answers = self._answers([prompt], length, settings, record=True)
        answers.write_trace(target, self._located.given, self.opened)
        return Answer(answers.rows[0]["text"], answers.rows[0]["score"])

    def _answers(
        self, given: str | Sequence[str], length: int | str | None, settings: dict[str, Any], *,
        record: bool,
    ) -> Answers:  # fmt: skip
        prompts, told = self._prompts(given), _told(length)
        asked = Asked.by_name({**settings, "length": length if told is None else None})
        model, chosen = self.opened, self._settings(asked)
        places = _places(prompts)
        if told is not None:
            self._check_length(told, prompts, places)
            refuse_what_a_length_says(asked, told)
            model, chosen = of_one_length(model, chosen, told)
        canvas = ', or length="canvas"' if model.canvas_length else ""
        remedy = f"say how many tokens answers have, such as length=20{canvas}, or open the model "
        check_answerable(
            asked, self._located, model, chosen, prompts, places,
            without_lengths=remedy + "of a `length` stage",
        )  # fmt: skip
        return answer_prompts(model, prompts, chosen, record=record)

    def _prompts(self, given: str | Sequence[str]) -> list[str]:
        """Only a model of texts writes without being told how to begin."""
        prompts = _texts(given, "prompts")
        if not self.opened.texts:
            refuse_empty(prompts, _places(prompts))
        return prompts

    def _check_length(self, length: int, prompts: list[str], places: list[str]) -> None:
        if self.opened.kind == "autoregressive":
            raise UserError(f"length={length}: {self._located.given} ends its answers itself; "
                            "max_new_tokens bounds them")  # fmt: skip
        if length < 1:
            raise UserError(f"length={length}: at least 1 token")
        for ids, place in zip(self.opened.heads(prompts), places, strict=True):
            room = self.opened.backbone.room_behind(len(ids)) - 1  # its end
            if length > room:
                raise UserError(f"length={length}: behind {place} there is room for {room} tokens")

    def _settings(self, asked: Asked) -> GenerationSettings:
        return chosen_settings(asked, self._located, self.opened, references=False)


@_as_value_errors()
def load(
    place: str | os.PathLike[str], *, device: str | None = None, trust_remote_code: bool = False
) -> Model:
    """Open a model.

    Args:
        place: A run directory, a stage's, any Hugging Face directory or a hub name.
        device: ``cpu``, ``cuda:0`` ...; by default a GPU if there is one.
        trust_remote_code: Run code that comes with the model.

    Raises:
        UserError: There is no such model, or it cannot be opened; the message says what to do.
    """
    from dlm.training.quiet import quiet_libraries

    quiet_libraries()
    located = locate_model(_path(place))
    if device is not None:
        _check_device(device)
    return Model(located, open_located(located, device, trust_remote_code=trust_remote_code))


def _path(place: str | os.PathLike[str]) -> str:
    name = os.fspath(place) if isinstance(place, str | os.PathLike) else place
    if not isinstance(name, str) or not name:
        raise UserError(f"place is {name!r}: give a path, as text or a Path")
    return name


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise UserError(
            f"device={device!r}: {errors.first_line(error)}: give cpu, or cuda:N of a GPU that is "
            "here"
        ) from error


def _told(length: Any) -> int | None:
    """Tokens of every answer; None: lengths are from elsewhere."""
    found = as_python(length)
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    if not isinstance(found, str | None) or found not in (None, *get_args(LengthSource)):
        raise UserError(
            f"length={found!r}: a whole number of tokens, or where lengths are from: predicted or "
            "canvas"
        )
    return None


def _likelihood(estimator: Any, samples: Any, seed: Any) -> LikelihoodSettings:
    """Checked as ``evaluation.likelihood`` of a recipe is."""
    from dlm.config.ranges import RANGE_OF

    if not isinstance(estimator, str) or estimator not in get_args(Estimator):
        raise UserError(f"estimator={estimator!r}: one of {', '.join(get_args(Estimator))}")
    numbers = {"samples": as_python(samples), "seed": as_python(seed)}
    for name, number in numbers.items():
        allowed = RANGE_OF[f"evaluation.likelihood.{name}"]
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not whole or not allowed.fits(number):
            raise UserError(f"{name}={number!r}: a whole number, {allowed}")
    return LikelihoodSettings(cast(Estimator, estimator), **numbers)


def _places(prompts: Sequence[str]) -> list[str]:
    return [f"prompts[{number}]" for number in range(len(prompts))]


def _texts(given: str | Sequence[str], what: str) -> list[str]:
    """Texts in the order given. What has no order, or gives its names when it is gone through (a
    mapping, a table), is refused."""
    named = isinstance(given, bytes | Mapping | Set) or hasattr(given, "columns")
    if named or not isinstance(given, Iterable):
        kind = type(given).__name__
        raise UserError(f"{what} is {kind}: give a text, or a list (of a table one of its columns)")
    try:
        texts = [given] if isinstance(given, str) else list(given)
    except TypeError as error:  # an array without dimensions
        raise UserError(f"{what}: {error}: give a text or a list of texts") from error
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{what}[{number}] is {type(text).__name__}, not text")
        check_utf8(text, f"{what}[{number}]")
    return texts
