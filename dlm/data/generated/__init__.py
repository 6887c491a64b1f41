"""Rows that are made on the spot: licence-free, offline, the same for the same arguments.

Every generator has *items*, and a hash of an item alone decides its split: what is tested was never
trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, get_args

from dlm.data.generated.draws import (
    GENERATOR_VERSION,
    Generator,
    Request,
    Row,
    Split,
    check_choice,
)
from dlm.data.generated.functions import FUNCTIONS
from dlm.data.generated.numbers import NUMBERS, OPTION_CHECKS
from dlm.data.generated.proteins import PROTEINS

GENERATORS: Mapping[str, Generator] = {**NUMBERS, **PROTEINS, **FUNCTIONS}


def generate(name: str, *, split: Split, count: int, seed: int, **options: Any) -> list[Row]:
    """Distinct rows of a generator; a larger `count` only adds rows at the end.

    With several tasks the rows take turns between them; `GENERATORS` lists the options. Raises
    ValueError for an unknown name, split, option or value, and for more rows than there are.
    """
    request = _checked_request(name, split, seed, options)
    spaces = GENERATORS[name].spaces(request)
    maximum = min(space.size * len(spaces) + turn for turn, space in enumerate(spaces))
    if not 0 <= count <= maximum:
        raise ValueError(
            f"{name}: count is {count}; the {split} split has 0 to {maximum} distinct rows "
            "with these options"
        )
    draws = [space.draw() for space in spaces]
    return [next(draws[turn % len(draws)]) for turn in range(count)]


def identity(
    name: str, *, split: Split, count: int, seed: int, **options: Any
) -> dict[str, str | int | dict[str, Any]]:
    """Everything that decides the rows of `generate` with the same arguments, ready for JSON.

    The arguments are checked as there, but for the count being available.
    """
    checked = _checked_request(name, split, seed, options).options
    return {
        "name": name,
        "split": split,
        "count": count,
        "seed": seed,
        "options": {k: list(v) if isinstance(v, tuple) else v for k, v in checked.items()},
        "generator_version": GENERATOR_VERSION,
        **{library: version(library) for library in GENERATORS[name].libraries},
    }


def _checked_request(name: str, split: Split, seed: int, options: Mapping[str, Any]) -> Request:
    check_choice("generator", name, tuple(GENERATORS))
    check_choice("split", split, get_args(Split))
    defaults = GENERATORS[name].options
    for option in options:
        check_choice(f"option of {name}", option, tuple(defaults))
    checked = {key: OPTION_CHECKS[key](value) for key, value in {**defaults, **options}.items()}
    if "source" in checked and checked["source"] == checked["target"]:
        raise ValueError(f"{name}: source and target are both {checked['source']!r}")
    return Request(name, split, seed, checked)
