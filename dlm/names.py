"""Names that reach a path, a script or a page: which characters they may have, declared once."""

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class NameRule:
    """What one kind of name may be."""

    words: str
    """The rule as a message says it."""
    fits: Callable[[str], bool]

    def problem(self, text: str) -> str | None:
        """The rule, where a text breaks it."""
        return None if self.fits(text) else self.words


LONGEST_NAME = 100
"""Bytes of UTF-8: a file's name has 255, and a job's and a log's hold two names and more."""
LONGEST_STAGE = 64


def _is_title(text: str) -> bool:
    return bool(
        # Neither line breaks nor control and format characters, nor what UTF-8 cannot write.
        text.isprintable()
        and text == text.strip()
        and text[:1] not in ("", ".", "-")
        and not set(text) & set("/\\")
        and len(text.encode()) <= LONGEST_NAME
    )


def _matches(pattern: str, longest: int) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: len(text) <= longest and compiled.fullmatch(text) is not None


LINE = NameRule(
    "must be printable text on one line (no line break, no control character)", str.isprintable
)
"""A value that a script or a path takes."""
TITLE = NameRule(
    f"it names a folder: printable text on one line, at most {LONGEST_NAME} bytes, no '/' or '\\', "
    "no '.', '-' or blank at its beginning, no blank at its end",
    _is_title,
)
"""Recipes."""
TABLE, COMPARISONS = "table.md", "comparisons.json"
"""Files of an evaluation, beside the folders of its systems or tasks."""
RESULT = NameRule(
    f"{TITLE.words}, and may not be {TABLE} or {COMPARISONS}, which an evaluation writes beside it",
    lambda text: _is_title(text) and text.casefold() not in (TABLE, COMPARISONS),
)
"""Systems and tasks."""
STAGE = NameRule(
    f"a stage's name has only a-z, 0-9, '_' and '-', at most {LONGEST_STAGE} of them, and does not "
    "begin with '-'",
    _matches(r"[a-z0-9_][a-z0-9_-]*", LONGEST_STAGE),
)
LABEL = NameRule(
    "a cell is a directory: its name may have letters, digits, '.', '+' and '-', begins with one "
    f"of the first two, and has at most {LONGEST_STAGE} signs",
    _matches(r"[A-Za-z0-9][A-Za-z0-9.+-]*", LONGEST_STAGE),
)
"""A step along an axis of a sweep."""
VARIABLE = NameRule("no name of an environment variable", _matches(r"[A-Za-z_][A-Za-z0-9_]*", 255))
DNS_LABEL = NameRule(
    "must be a name of Kubernetes: a-z, 0-9 and '-', at most 63, a letter or digit at both ends",
    _matches(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", 63),
)
DNS_NAME = NameRule(
    "must be a name of Kubernetes: a-z, 0-9, '-' and '.', at most 253, a letter or digit at both "
    "ends of every part",
    _matches(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", 253),
)
