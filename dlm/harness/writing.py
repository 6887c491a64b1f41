"""Answers as the harness asks for them: up to a stop string, at most this many tokens."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dlm.data.rows.encoding import encode_responses
from dlm.errors import UserError
from dlm.generation.generate import generate
from dlm.generation.generated import Generated
from dlm.generation.lengths import of_one_length
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings
from dlm.tokens.text_form import decode_texts

_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens")
_READ = ("until", "do_sample", "temperature", "top_k", "top_p", *_LIMITS)
DEFAULT_MAX_TOKENS = 256
"""As in the harness, where a task does not say."""


@dataclass(frozen=True)
class Wanted:
    """How one request is to be answered."""

    stops: tuple[str, ...]
    max_tokens: int
    temperature: float | None
    """None: as the settings say."""
    top_k: int | None
    top_p: float | None

    @classmethod
    def of(cls, given: Mapping[str, Any], place: str) -> "Wanted":
        """Read a request's ``generation_kwargs``.

        Raises:
            UserError: The stop strings or the limit cannot be read.
        """
        until = given.get("until") or []
        stops = [until] if isinstance(until, str) else until
        if not isinstance(stops, list | tuple) or not all(isinstance(s, str) for s in stops):
            raise UserError(f"{place}: until={until} must be a text or a list of texts")
        limit = next((given[k] for k in _LIMITS if given.get(k) is not None), DEFAULT_MAX_TOKENS)
        if not isinstance(limit, int) or limit < 1:
            raise UserError(f"{place}: max_gen_toks={limit} must be a whole number, at least 1")
        temperature = given.get("temperature")
        draws = given.get("do_sample")
        if not (bool(temperature) if draws is None else draws):
            return cls(tuple(filter(None, stops)), limit, None, None, None)
        return cls(
            tuple(filter(None, stops)), limit, 1.0 if temperature is None else float(temperature),
            given.get("top_k"), given.get("top_p"),
        )  # fmt: skip


def not_read(given: Mapping[str, Any]) -> list[str]:
    """The keys of ``generation_kwargs`` that change nothing here."""
    return sorted(set(given) - set(_READ))


def write(
    model: GenerativeModel,
    prompts: Sequence[str],
    wanted: Sequence[Wanted],
    settings: GenerationSettings,
    *,
    fixed_length: bool,
    asked: Counter[tuple[str, Wanted]],
) -> list[str]:
    """The answer to every prompt, in their order.

    Args:
        fixed_length: Every answer is decoded with as many tokens as its request allows, and ends at
            its stop string; else its length is as the settings say.
        asked: How often each request came before, which is counted on: the same one again draws
            anew, if it draws.
    """
    groups: dict[tuple[GenerationSettings, int | None], list[int]] = {}
    for index, (prompt, how) in enumerate(zip(prompts, wanted, strict=True)):
        own = _settings(model, settings, how, repetition=asked[prompt, how])
        asked[prompt, how] += 1
        groups.setdefault((own, how.max_tokens if fixed_length else None), []).append(index)
    texts: dict[int, str] = {}
    for (own, length), members in groups.items():
        writer, chosen = model, own
        if length is not None and model.kind == "diffusion":
            writer, chosen = of_one_length(model, own, length)
        answers = generate(writer, [prompts[i] for i in members], chosen).answers
        for index, answer in zip(members, answers, strict=True):
            texts[index] = _cut(model, answer, wanted[index])
    return [texts[index] for index in range(len(prompts))]


def _settings(
    model: GenerativeModel, settings: GenerationSettings, wanted: Wanted, repetition: int
) -> GenerationSettings:
    """The settings of one request."""
    if model.kind == "autoregressive":
        return replace(settings, max_new_tokens=wanted.max_tokens)
    if wanted.temperature is not None:
        settings = replace(
            settings, temperature=wanted.temperature, top_k=wanted.top_k, top_p=wanted.top_p
        )
    try:
        draws = settings.parts().draws
    except ValueError as error:
        raise UserError(f"generation_kwargs: {error}") from error
    return replace(settings, seed=settings.seed + repetition) if draws else settings


def _cut(model: GenerativeModel, answer: Generated, wanted: Wanted) -> str:
    """Without what follows the first stop string, and what is over the limit."""
    text = answer.text
    if answer.length > wanted.max_tokens:
        tokens = encode_responses(model.tokenizer, [text])[0]
        (text,) = decode_texts(model.tokenizer, [tokens[: wanted.max_tokens]])
    places = [place for stop in wanted.stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text
