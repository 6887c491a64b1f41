"""Where the trace of an answer goes."""

import os
from collections.abc import Mapping
from pathlib import Path

from dlm.errors import UserError

_SUFFIXES = (".html", ".svg", ".jsonl")


def trace_place(
    given: str | os.PathLike[str], *, said: str, others: Mapping[str, str | None]
) -> Path:
    """The file for the trace, which can be written when it is made.

    Args:
        given: Its name.
        said: How it was given, for messages.
        others: The command's other files by their options.

    Raises:
        UserError: The suffix names no form, or the file cannot be written or is another one of the
            command's.
    """
    place = Path(given)
    if place.suffix not in _SUFFIXES:
        raise UserError(
            f"{said}: the name says the form, so it must end in .html (a page that "
            "replays the canvas), .svg (a moving picture) or .jsonl (a line for each iteration)"
        )
    for option, other in others.items():
        if other is not None and place.resolve() == Path(other).resolve():
            raise UserError(f"{said} is the file of {option} too: give it another name")
    if place.is_dir():
        raise UserError(f"{said} is a directory: give it a file, F.html")
    if not place.absolute().parent.is_dir():
        raise UserError(f"{said}: there is no directory {place.parent}: make it first")
    _check_writable(place, said)
    return place


def _check_writable(place: Path, said: str) -> None:
    """Open it as it will be opened, and leave everything as it was."""
    try:
        if place.exists():
            place.open("r+b").close()
        else:
            place.touch(exist_ok=False)
            place.unlink()
    except OSError as error:
        raise UserError(
            f"{said} cannot be written ({error.strerror}): give it another place"
        ) from error
