"""What a setting says of itself where it is declared: a field of a dataclass."""

from dataclasses import field
from typing import Any


def where(default: Any) -> Any:
    """A field that says where or how often, not what: it never changes the numbers. (The draws of
    dropout alone are those of a device's micro-batch, and differ between the ways to cut one.)"""
    return field(default=default, metadata={"semantic": False})


WHEN_SET = {"when_set": True}
"""Marks a section or setting that came later: left as it is, it is not in the fingerprint, so that
stages which were finished before it existed stay done."""
IN_THE_ROWS = {"semantic": False}
"""Marks how rows are read: what that makes of them is in the identity of the rows."""
