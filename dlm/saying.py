"""One line on standard error for what was decided and nobody asked for."""

import sys

from dlm.process import process_rank


def say_once(subject: object, line: str, *, about: str = "") -> None:
    """Print a line, once for a subject and what it is ``about``, from the first of the ranks."""
    if (subject, about) in _SAID or process_rank():
        return
    _SAID.add((subject, about))
    print(line, file=sys.stderr)


_SAID: set[tuple[object, str]] = set()
