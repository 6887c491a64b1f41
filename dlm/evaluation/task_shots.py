"""Demonstrations of an evaluation task, and its variants: the keys of a task file for them."""

from collections.abc import Mapping
from typing import Any

from dlm.data.sources import json_kind
from dlm.errors import did_you_mean

_SHOT_KEYS: dict[str, type] = {
    "count": int, "source": dict, "separator": str, "joiner": str, "pool_rows": int,
}  # fmt: skip


def few_shot_problems(few_shot: Any) -> list[str]:
    """What is wrong with ``few_shot``: count; as wished source, separator, joiner, pool_rows."""
    if not isinstance(few_shot, dict):
        return [f"few_shot is {json_kind(few_shot)}, where it must be a mapping"]
    problems = [
        f"unknown key 'few_shot.{key}'{did_you_mean(str(key), _SHOT_KEYS)}"
        for key in few_shot
        if key not in _SHOT_KEYS
    ]
    for key, kind in _SHOT_KEYS.items():
        value = few_shot.get(key)
        least = 0 if key == "count" else 1  # none unless the user asks for some
        if key in few_shot and (
            type(value) is not kind or (isinstance(value, int) and value < least)
        ):
            words = {int: f"a whole number, at least {least}", dict: "a mapping", str: "text"}[kind]
            problems.append(f"few_shot.{key} = {value!r} must be {words}")
    if "count" not in few_shot:
        problems.append("few_shot.count is missing")
    return problems


def replaced(value: Any, words: Mapping[str, str]) -> Any:
    """``value`` with {word} replaced in every text of it."""
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace("{" + word + "}", text)
        return value
    if isinstance(value, dict):
        return {key: replaced(item, words) for key, item in value.items()}
    return [replaced(item, words) for item in value] if isinstance(value, list) else value
