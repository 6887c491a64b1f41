"""Places for a stage's files: folders that are made, and what lies where a file belongs."""

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


def make_folder(folder: Path) -> None:
    """Make a folder of a stage, such as logs/samples. The stage's own directory must be there: it
    is missing when the run was moved away, and is not to be made anew in its old place.

    Raises:
        FileNotFoundError: It is missing.
    """
    folder.parent.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
