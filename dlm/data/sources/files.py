"""The files that a path, a folder or a glob pattern means, and of what kind each is."""

import glob
from pathlib import Path
from typing import Literal, NamedTuple

from dlm.errors import UserError

Format = Literal["txt", "jsonl", "json", "csv", "tsv", "parquet"]
Compression = Literal["", "gz", "bz2", "xz", "zst"]

_FORMATS: dict[str, Format] = {
    ".txt": "txt", ".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".parquet": "parquet",
}  # fmt: skip
_COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst"}
KINDS_TEXT = (
    "files are .txt, .jsonl, .json, .csv, .tsv (plain, .gz, .bz2, .xz or .zst) and .parquet"
)


class FileKind(NamedTuple):
    """How a file is read."""

    format: Format
    compression: Compression


def file_kind(path: Path) -> FileKind:
    """The kind of a file, by its name; a pipe is JSON lines.

    Raises:
        UserError: The name ends like none of the kinds that are read.
    """
    compression = _COMPRESSIONS.get(path.suffix.lower(), "")
    suffix = (path.with_suffix("") if compression else path).suffix.lower()
    if suffix == ".parquet" and compression:
        raise UserError(
            f"{path}: Parquet is compressed inside: unpack the .{compression} around it"
        )
    if suffix in _FORMATS:
        return FileKind(_FORMATS[suffix], compression)
    if path.exists() and not path.is_file():
        return FileKind("jsonl", "")
    raise UserError(f"{path}: no kind of file that is read: rename it ({KINDS_TEXT})")


def is_pattern(path: Path) -> bool:
    """Whether the path is a glob pattern (a file that is really called so is none)."""
    return glob.has_magic(str(path)) and not path.exists()


def source_files(path: Path) -> list[Path]:
    """The file itself, or the files of a folder or a glob pattern (``**``: at any depth) by name.

    Hidden files are left out. A folder that holds anything that is not read is refused: a file
    that is half downloaded, or a subfolder, must not be passed over in silence.

    Raises:
        UserError: There is no file, or one of no kind that is read.
    """
    if is_pattern(path):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = [file for file in found if not file.is_dir()]
        if not files:
            raise UserError(f"no file matches {path}: correct the pattern, or data.root=DIR")
    elif path.is_dir():
        files = _folder_files(path)
    else:
        return [path]
    for file in files:
        file_kind(file)
    return files


def _folder_files(folder: Path) -> list[Path]:
    try:
        inside = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from error
    others = [file.name for file in inside if not _is_read(file)]
    if len(others) == len(inside):
        held = f"holds only {_names(others)}" if others else "is an empty folder"
        raise UserError(f"{folder} {held}: give a folder with files to read ({KINDS_TEXT})")
    if others:
        suffixes = "".join(next(file for file in inside if _is_read(file)).suffixes)
        raise UserError(
            f"{folder} also holds {_names(others)}, which is not read: name what is with a "
            f"pattern, such as {folder / f'*{suffixes}'} ({KINDS_TEXT})"
        )
    return inside


def _is_read(file: Path) -> bool:
    try:
        return bool(file_kind(file)) and not file.is_dir()
    except UserError:
        return False


def _names(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def unreadable(path: Path, error: OSError) -> UserError:
    """The error of a file that cannot be opened."""
    return UserError(
        f"cannot read {path}: {error.strerror}. Correct the path, or set data.root=DIR to the "
        "folder that it is relative to"
    )
