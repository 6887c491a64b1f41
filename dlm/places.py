"""Whether a name means a directory here or something on the hub."""

from pathlib import Path

from dlm.errors import UserError


def expanded(name: str | Path) -> Path:
    """The path that a name would be here, with ``~`` as the home directory."""
    return Path(name).expanduser()


def written_as_path(text: str) -> bool:
    """Whether a name is none that the hub could have, which are ``name`` and ``owner/name``."""
    _, slash, rest = text.partition("/")
    return text.startswith((".", "~", "/")) or "/" in rest or (bool(slash) and not rest)


def means_a_path(name: str | Path) -> bool:
    """Whether a name is a path: it is written as one, or the folder here is called as the owner of
    the hub would be."""
    owner, slash, _ = str(name).partition("/")
    written = isinstance(name, Path) or written_as_path(name)
    return written or (bool(slash) and Path(owner).is_dir())


def absent(name: str | Path) -> str | None:
    """Why a name that means a directory here is none, and what to do; None where it is one, or may
    be on the hub."""
    path = expanded(name)
    if path.is_dir() or not (path.exists() or means_a_path(name)):
        return None
    if path.exists():
        return f"{path} is a file: give the directory that holds it"
    reason = f"there is no directory {path}" if path.is_absolute() else (
        f"there is no directory {path} below {Path.cwd()}"
    )  # fmt: skip
    remedy = "correct the path, or make the directory first"
    if not written_as_path(str(name)):
        folder = str(name).partition("/")[0]
        remedy += f" (if {name} of the hub is meant, the folder {folder} here is in the way)"
    return f"{reason}, and the hub is not asked for a path: {remedy}"


def place_of(name: str | Path) -> str:
    """A directory that is there, or a name of the hub.

    Raises:
        UserError: It means a directory, and there is none.
    """
    if reason := absent(name):
        raise UserError(reason)
    path = expanded(name)
    return str(path) if path.is_dir() else str(name)
