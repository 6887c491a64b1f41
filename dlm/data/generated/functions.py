"""Small Python functions: an instruction, and the body that does it.

An *item* is what to do, a condition, its number and the name of the list. A hash of all four
decides its split: each part of a test item is trained on, their combination is not. A body is
indented by four blanks, as it stands below its ``def`` line, and its indentation means something.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from dlm.data.generated.draws import Generator, Request, Row, Space, Split, split_of_key

_LISTS = ("ages", "angles", "bills", "codes", "heights", "levels", "marks", "prices", "ranks",
          "rates", "scores", "sizes", "weights", "years")  # fmt: skip
_NUMBERS = range(2, 100)
_CONDITIONS = {
    "even": "{x} % 2 == 0",
    "odd": "{x} % 2 == 1",
    "above {n}": "{x} > {n}",
    "below {n}": "{x} < {n}",
    "at least {n}": "{x} >= {n}",
    "not {n}": "{x} != {n}",
    "divisible by {n}": "{x} % {n} == 0",
}
"""In words -> in Python."""
_BODIES = {
    "Add up the {xs} that are {c}": (
        "total = 0", "for {x} in {xs}:", "    if {C}:", "        total += {x}", "return total",
    ),
    "Add up the {xs} before the first that is {c}": (
        "total = 0", "for {x} in {xs}:", "    if {C}:", "        break", "    total += {x}",
        "return total",
    ),
    "Count the {xs} that are {c}": (
        "count = 0", "for {x} in {xs}:", "    if {C}:", "        count += 1", "return count",
    ),
    "List the {xs} that are {c}": (
        "found = []", "for {x} in {xs}:", "    if {C}:", "        found.append({x})",
        "return found",
    ),
    "Part the {xs} that are {c} from the others": (
        "yes, no = [], []", "for {x} in {xs}:", "    if {C}:", "        yes.append({x})",
        "    else:", "        no.append({x})", "return yes, no",
    ),
    "Find the first of the {xs} that is {c}": (
        "for {x} in {xs}:", "    if {C}:", "        return {x}", "return None",
    ),
    "Say whether any of the {xs} is {c}": (
        "for {x} in {xs}:", "    if {C}:", "        return True", "return False",
    ),
    "Say whether all of the {xs} are {c}": (
        "for {x} in {xs}:", "    if not {C}:", "        return False", "return True",
    ),
}  # fmt: skip
"""The instruction -> the lines of the body."""


class _Item(NamedTuple):
    order: str
    condition: str
    number: int
    listed: str


@cache
def _items(split: Split) -> tuple[_Item, ...]:
    every = (
        _Item(order, condition, number, listed)
        for order in _BODIES
        for condition in _CONDITIONS
        for number in (_NUMBERS if "{n}" in condition else (2,))
        for listed in _LISTS
    )
    return tuple(
        item for item in every if split_of_key("function:{}:{}:{}:{}".format(*item)) == split
    )


def _row(item: _Item) -> Row:
    names = {"x": item.listed[:-1], "xs": item.listed, "n": item.number}
    names["c"] = item.condition.format(**names)
    names["C"] = _CONDITIONS[item.condition].format(**names)
    body = "\n".join("    " + line.format(**names) for line in _BODIES[item.order])
    return {"inputs": item.order.format(**names) + ".", "targets": body}


def _function_bodies(request: Request) -> list[Space]:
    items = _items(request.split)
    return [Space(len(items), lambda index: _row(items[index]), request.rng("functions"))]


FUNCTIONS: Mapping[str, Generator] = {
    "function_bodies": Generator(
        "What a Python function of a list does in words, and its body with its indentation "
        "(inputs, targets).",
        {},
        _function_bodies,
    ),
}
