"""A file is to be written where something else lies: what lies there is kept under another name."""

import sys
from pathlib import Path


def make_way(path: Path) -> Path:
    """Move a directory aside that lies where a file belongs, and say so; gives ``path`` back."""
    if path.is_dir() and not path.is_symlink():
        print(f"{path} was a directory where a file belongs: it is now {aside(path)}",
              file=sys.stderr)  # fmt: skip
    return path


def aside(path: Path) -> Path:
    """Rename what lies there; gives its new place, beside it."""
    return path.rename(free_name(path))


def free_name(path: Path) -> Path:
    """A name beside it that nothing has: NAME.damaged, NAME.damaged-2 ..."""
    place = path.with_name(f"{path.name}.damaged")
    count = 1
    while place.exists():
        count += 1
        place = path.with_name(f"{path.name}.damaged-{count}")
    return place
