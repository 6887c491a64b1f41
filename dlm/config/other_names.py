"""Settings that are understood under a second name, which is turned into their own while read."""

from collections.abc import Mapping, Sequence
from typing import Any

from dlm.errors import UserError

_OTHER_NAMES = {("generation", "steps"): "num_iterations"}
"""Section and second name -> the setting's own name."""


def own_key(keys: Sequence[str]) -> list[str]:
    """A setting's path with its own name at the end."""
    named_by_hand = len(keys) > 2 and keys[-3] in ("stages", "systems")
    own = _OTHER_NAMES.get((keys[-2], keys[-1])) if len(keys) > 1 and not named_by_hand else None
    return [*keys[:-1], own] if own else list(keys)


def own_names(values: Any, at: Sequence[str] = ()) -> Any:
    """What a YAML file or an override holds, every setting under its own name.

    Keys may be paths themselves, as in a sweep.

    Raises:
        UserError: A mapping has a setting under both names.
    """
    if not isinstance(values, Mapping):
        return values
    renamed: dict[Any, Any] = {}
    for key, value in values.items():
        parts = str(key).split(".")
        keys = own_key([*at, *parts])
        own = key if keys[-1] == parts[-1] else ".".join(keys[len(at) :])
        if own != key and own in values:
            raise UserError(
                f"{'.'.join([*at, own])} is given twice, as {keys[-1]} and under its other name "
                f"{parts[-1]}: remove {parts[-1]}"
            )
        renamed[own] = own_names(value, keys)
    return renamed
