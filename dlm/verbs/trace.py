"""dlm generate --trace: where the trace goes, and writing it."""

from pathlib import Path

from dlm.errors import UserError

_SUFFIXES = (".html", ".svg", ".jsonl")


def trace_place(given: str | None, *, others: dict[str, str | None]) -> Path | None:
    """The file for the trace, None if there is to be none.

    ``others`` are the command's other files by their options.

    Raises:
        UserError: The suffix names no form, or the file cannot be written or is another one of the
            command's.
    """
    if given is None:
        return None
    place = Path(given)
    if place.suffix not in _SUFFIXES:
        raise UserError(
            f"--trace {given}: the name says the form, so it must end in .html (a page that "
            "replays the canvas), .svg (a moving picture) or .jsonl (a line for each iteration)"
        )
    for option, other in others.items():
        if other is not None and place.resolve() == Path(other).resolve():
            raise UserError(f"--trace {given} is the file of {option} too: give it another name")
    if place.is_dir():
        raise UserError(f"--trace {given} is a directory: give it a file, F.html")
    if not place.absolute().parent.is_dir():
        raise UserError(f"--trace {given}: there is no directory {place.parent}: make it first")
    _check_writable(place)
    return place


def _check_writable(place: Path) -> None:
    """Open it as it will be opened, and leave everything as it was."""
    try:
        if place.exists():
            place.open("r+b").close()
        else:
            place.touch(exist_ok=False)
            place.unlink()
    except OSError as error:
        raise UserError(
            f"--trace {place} cannot be written ({error.strerror}): give it another place"
        ) from error
