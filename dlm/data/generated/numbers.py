"""Numbers and dates in words: real, licence-free text that is made offline and checks exactly.

An *item* is a number or a date (weekday, day and month, without a year). num2words and Babel
write it out in English, German, French or Spanish, in lower case and without digits. A hash of
the item alone decides its split, so an item held out for testing is held out in every language
and in every generator. Its parts are not: "seven" can be a test item while "twenty-seven" is
trained on.
"""

from __future__ import annotations

import calendar
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import cache, lru_cache
from itertools import permutations
from typing import Any, NamedTuple, TypeAlias

from babel.dates import get_day_names, get_month_names
from babel.lists import format_list
from num2words import num2words

from dlm.data.generated.draws import (
    Generator,
    Request,
    Row,
    Space,
    Split,
    check_choice,
    split_of_key,
)

LANGUAGES = ("en", "de", "fr", "es")
LARGEST_NUMBER = 20_999
"""From 21,000 on num2words writes Spanish "veintiuno mil", where Spanish has "veintiún mil"."""

TRANSLATIONS = tuple(f"translate:{a}-{b}" for a, b in permutations(LANGUAGES, 2))
TASKS = (*TRANSLATIONS, "digits", "larger")
DEFAULT_TASKS = (
    *(task for task in TRANSLATIONS if "en" in task.removeprefix("translate:").split("-")),
    "digits",
    "larger",
)
"""Translation from and to English only: pairs such as German to French stay unseen."""

_LANGUAGE_NAMES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish"}
_DATE_PATTERNS = {
    "en": "{weekday} the {day} of {month}",
    "de": "{weekday} der {day} {month}",
    "fr": "{weekday} {day} {month}",
    "es": "{weekday} {day} de {month}",
}


class Date(NamedTuple):
    """A day of any year; `weekday` counts from 0 for Monday."""

    weekday: int
    day: int
    month: int


Item: TypeAlias = int | Date


def split_of(item: Item) -> Split:
    """The one split an item belongs to: 80 % train, 8 % validation, 12 % test."""
    key = "date:{}:{}:{}".format(*item) if isinstance(item, Date) else f"number:{item}"
    return split_of_key(key)


@cache
def words(item: Item, language: str) -> str:
    """An item in the words of a language, in lower case and without commas."""
    check_choice("language", language, LANGUAGES)
    if isinstance(item, Date):
        return _date_words(item, language)
    if not 1 <= item <= LARGEST_NUMBER:
        raise ValueError(f"number {item} is outside 1 to {LARGEST_NUMBER}")
    return str(num2words(item, lang=language)).replace(",", "").lower()


def successor(item: Item) -> Item:
    """The next number, or the next day (of a leap year)."""
    if not isinstance(item, Date):
        return item + 1
    following = date(2000, item.month, item.day) + timedelta(days=1)
    return Date((item.weekday + 1) % 7, following.day, following.month)


def _date_words(day: Date, language: str) -> str:
    ordinal = language in ("en", "de") or (language == "fr" and day.day == 1)
    text = _DATE_PATTERNS[language].format(
        weekday=get_day_names("wide", locale=language)[day.weekday],
        day=num2words(day.day, lang=language, to="ordinal" if ordinal else "cardinal"),
        month=get_month_names("wide", locale=language)[day.month],
    )
    return text.lower()


@lru_cache(maxsize=16)
def _numbers(split: Split, max_number: int) -> tuple[int, ...]:
    return tuple(n for n in range(1, max_number + 1) if split_of(n) == split)


@cache
def _dates(split: Split) -> tuple[Date, ...]:
    leap_year = 2000
    every = (
        Date(weekday, day, month)
        for weekday in range(7)
        for month in range(1, 13)
        for day in range(1, calendar.monthrange(leap_year, month)[1] + 1)
    )
    return tuple(day for day in every if split_of(day) == split)


def _numbers_of(request: Request) -> tuple[int, ...]:
    return _numbers(request.split, request.options["max_number"])


def _items_of(request: Request, rng: random.Random) -> list[Item]:
    """As many items as the split can give with the wanted share of dates among them."""
    numbers, dates = _numbers_of(request), _dates(request.split)
    share = request.options["date_share"]
    limits = [len(pool) / part for pool, part in ((numbers, 1 - share), (dates, share)) if part]
    size = int(min(limits))
    date_count = min(round(size * share), len(dates))
    number_count = min(size - date_count, len(numbers))
    return [*rng.sample(numbers, number_count), *rng.sample(dates, date_count)]


def _number_text(request: Request) -> list[Space]:
    languages: Sequence[str] = request.options["languages"]
    rng = request.rng("lines")
    items = _items_of(request, rng)

    def row(index: int) -> Row:
        place, which = divmod(index, len(languages))
        language = languages[which]
        return {"text": words(items[place], language), "language": language}

    return [Space(len(items) * len(languages), row, rng)]


def _number_counting(request: Request) -> list[Space]:
    languages: Sequence[str] = request.options["languages"]
    rng = request.rng("counting")
    last = request.options["max_number"]
    pairs = [(item, successor(item)) for item in _items_of(request, rng) if item != last]
    pairs = [pair for pair in pairs if split_of(pair[1]) == request.split]

    def row(index: int) -> Row:
        place, which = divmod(index, len(languages))
        language = languages[which]
        listed = format_list([words(item, language) for item in pairs[place]], locale=language)
        return {"text": listed, "language": language}

    return [Space(len(pairs) * len(languages), row, rng)]


def _number_pairs(request: Request) -> list[Space]:
    source, target = request.options["source"], request.options["target"]
    rng = request.rng("pairs")
    items = _items_of(request, rng)

    def row(index: int) -> Row:
        return {"src": words(items[index], source), "tgt": words(items[index], target)}

    return [Space(len(items), row, rng)]


def _number_choices(request: Request) -> list[Space]:
    source, target = request.options["source"], request.options["target"]
    numbers, others = _numbers_of(request), request.options["choices"] - 1

    def row(index: int) -> Row:
        # Near numbers of the same split share words with the right one, and are as unseen.
        first = max(0, min(index - others, len(numbers) - 2 * others - 1))
        near = [n for n in numbers[first : first + 2 * others + 1] if n != numbers[index]]
        rng = request.rng(f"choices/{index}")
        listed = [numbers[index], *rng.sample(near, others)]
        rng.shuffle(listed)
        return {
            "src": words(numbers[index], source),
            "choices": [words(number, target) for number in listed],
            "answer": listed.index(numbers[index]),
        }

    return [Space(len(numbers) if len(numbers) > others else 0, row, request.rng("questions"))]


def _number_instructions(request: Request) -> list[Space]:
    return [_task_space(request, task) for task in request.options["tasks"]]


def _task_space(request: Request, task: str) -> Space:
    if task == "digits":
        return _digits_space(request)
    if task == "larger":
        return _larger_space(request)
    return _translation_space(request, task)


def _translation_space(request: Request, task: str) -> Space:
    source, target = task.removeprefix("translate:").split("-")
    rng = request.rng(task)
    items = _items_of(request, rng)

    def row(index: int) -> Row:
        prompt = f"Translate to {_LANGUAGE_NAMES[target]}: {words(items[index], source)}"
        return {"inputs": prompt, "targets": words(items[index], target), "task": task}

    return Space(len(items), row, rng)


def _digits_space(request: Request) -> Space:
    numbers = _numbers_of(request)

    def row(index: int) -> Row:
        place, which = divmod(index, len(LANGUAGES))
        number = numbers[place]
        prompt = f"Write in digits: {words(number, LANGUAGES[which])}"
        return {"inputs": prompt, "targets": " ".join(str(number)), "task": "digits"}

    return Space(len(numbers) * len(LANGUAGES), row, request.rng("digits"))


def _larger_space(request: Request) -> Space:
    numbers = _numbers_of(request)

    def row(index: int) -> Row:
        first, second = divmod(index, len(numbers) - 1)
        second += second >= first  # the second number is any but the first
        left, right = numbers[first], numbers[second]
        prompt = f"Which is larger: {words(left, 'en')} or {words(right, 'en')}?"
        return {"inputs": prompt, "targets": words(max(left, right), "en"), "task": "larger"}

    return Space(len(numbers) * max(len(numbers) - 1, 0), row, request.rng("larger"))


def _check_list(option: str, what: str, value: object, choices: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"{option} must be a list of some of {', '.join(choices)}, not {value!r}")
    checked = tuple(check_choice(what, entry, choices) for entry in value)
    if len(set(checked)) < len(checked):
        raise ValueError(f"{option} names one of {', '.join(checked)} twice")
    return checked


def _check_max_number(value: object) -> int:
    if type(value) is not int or not 1 <= value <= LARGEST_NUMBER:
        raise ValueError(f"max_number must be an integer 1 to {LARGEST_NUMBER}, not {value!r}")
    return value


def _check_choices(value: object) -> int:
    if type(value) is not int or not 2 <= value <= 10:
        raise ValueError(f"choices must be an integer 2 to 10, not {value!r}")
    return value


def _check_date_share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"date_share must be a number from 0 to 1, not {value!r}")
    return float(value)


OPTION_CHECKS: Mapping[str, Callable[[object], Any]] = {
    "languages": lambda value: _check_list("languages", "language", value, LANGUAGES),
    "source": lambda value: check_choice("source language", value, LANGUAGES),
    "target": lambda value: check_choice("target language", value, LANGUAGES),
    "tasks": lambda value: _check_list("tasks", "task", value, TASKS),
    "max_number": _check_max_number,
    "choices": _check_choices,
    "date_share": _check_date_share,
}

_LIBRARIES = ("num2words", "babel")
_ITEM_OPTIONS: Mapping[str, Any] = {"max_number": 9999, "date_share": 0.2}

NUMBERS: Mapping[str, Generator] = {
    "number_text": Generator(
        "One number or date in words per line, in one of four languages (text, language).",
        {"languages": LANGUAGES, **_ITEM_OPTIONS},
        _number_text,
        _LIBRARIES,
    ),
    "number_counting": Generator(
        "Two successive numbers or days per line, in one of four languages (text, language).",
        {"languages": LANGUAGES, **_ITEM_OPTIONS},
        _number_counting,
        _LIBRARIES,
    ),
    "number_pairs": Generator(
        "The same number or date in words in two languages (src, tgt).",
        {"source": "en", "target": "de", **_ITEM_OPTIONS},
        _number_pairs,
        _LIBRARIES,
    ),
    "number_choices": Generator(
        "A number in words, and which of several near ones it is in another language (src, "
        "choices, answer: the index of the right one).",
        {"source": "en", "target": "de", "choices": 4, "max_number": 9999},
        _number_choices,
        _LIBRARIES,
    ),
    "number_instructions": Generator(
        "Translate, write in digits, or name the larger number (inputs, targets, task).",
        {"tasks": DEFAULT_TASKS, **_ITEM_OPTIONS},
        _number_instructions,
        _LIBRARIES,
    ),
}
