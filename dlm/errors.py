"""Errors with a remedy and the exit code that each stands for (the command-line contract)."""

from collections.abc import Iterable


class DlmError(Exception):
    """A failure that is explained to the user in one message, without a traceback."""

    exit_code = 3


class UserError(DlmError):
    """The user's configuration or data is wrong; the message names the place and the remedy."""

    exit_code = 2


class StageFailed(DlmError):
    """A stage stopped for a reason that is not the user's configuration or data."""

    exit_code = 3


class RunMoved(StageFailed):
    """The run directory was moved or removed while a stage worked in it."""


class RunInUse(DlmError):
    """Another live process works on the run directory."""

    exit_code = 4


class Preempted(DlmError):
    """The stage was asked to stop and has saved its state: run the same command again."""

    exit_code = 75


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, in a few words and without its path."""
    return (error.strerror if isinstance(error, OSError) else None) or f"{error}"


def first_line(error: Exception) -> str:
    """What an error says first; a line that ends in a colon says nothing without what follows."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    whole = next((n for n, line in enumerate(lines, 1) if not line.endswith(":")), len(lines))
    return " ".join(lines[:whole]) or type(error).__name__


def nearest(word: str, choices: Iterable[object]) -> str | None:
    """The choice most like ``word``, if one is alike at all."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, [str(choice) for choice in choices], n=1)), None)


def did_you_mean(word: str, choices: Iterable[object]) -> str:
    """``"; did you mean 'x'?"`` for the nearest choice, or an empty string."""
    near = nearest(word, choices)
    return f"; did you mean '{near}'?" if near else ""


def quote_it(value: object) -> str:
    """Why YAML has made no text of a value that is meant as one, and the remedy."""
    if isinstance(value, bool):
        written = "yes, on and true" if value else "no, off and false"
        example = "yes" if value else "no"
        return f"YAML reads {written} as {str(value).lower()}: quote it, such as '{example}'"
    if value is None:
        return "YAML reads null, ~ and nothing as no value: quote it if a text is meant, 'null'"
    kind = "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"
    return f"YAML reads what is written there as {kind}: quote it as you wrote it"
