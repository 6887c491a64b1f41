"""The files that a path, a folder or a glob pattern means, and of what kind each is."""

import glob
import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

from dlm.data.sources.known_kinds import known_by_suffix
from dlm.errors import UserError
from dlm.saying import say_once

Format = Literal["txt", "jsonl", "json", "csv", "tsv", "tmx", "parquet", "saved"]
"""``saved``: a folder that the ``datasets`` library's ``save_to_disk`` wrote."""
Compression = Literal["", "gz", "bz2", "xz", "zst"]

_FORMATS: dict[str, Format] = {
    ".txt": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv",
    ".psv": "csv", ".tsv": "tsv", ".tab": "tsv", ".tmx": "tmx", ".parquet": "parquet",
}  # fmt: skip
COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst"}
KINDS_TEXT = (
    "files are .txt, .jsonl, .json, .csv, .tsv, .tmx (plain, .gz, .bz2, .xz or .zst) and .parquet"
)
_NO_DATA = re.compile(
    r"(readme|licen[cs]e|copying|citation|changelog)(\.(md|txt|rst|cff|bib))?"
    r"|dataset_infos?\.json|dataset_dict\.json|_success|_metadata|_common_metadata",
    re.IGNORECASE,
)
"""Names of files that stand beside data and say something of it."""


class FileKind(NamedTuple):
    """How a file is read."""

    format: Format
    compression: Compression


def file_kind(path: Path, given: Format | None = None) -> FileKind:
    """The kind of a file: its format as ``given``, else by its name; a pipe is JSON lines.

    Raises:
        UserError: The name ends like none of the kinds that are read.
    """
    if is_saved(path):
        return FileKind("saved", "")
    compression = compression_of(path)
    bare = path.with_suffix("") if compression else path
    format_ = given or _FORMATS.get(bare.suffix.lower())
    if format_ == "parquet" and compression:
        raise UserError(
            f"{path}: Parquet is compressed inside: unpack the .{compression} around it"
        )
    if format_ is not None:
        return FileKind(format_, compression)
    if path.exists() and not path.is_file():
        return FileKind("jsonl", "")
    if (reason := known_by_suffix(path)) is not None:
        raise UserError(f"{path} is {reason}")
    raise UserError(
        f"{path}: no kind of file that is read: rename it, or set `format` on the source "
        f"({KINDS_TEXT})"
    )


def compression_of(path: Path) -> Compression:
    """How a file is packed, by its name."""
    return COMPRESSIONS.get(path.suffix.lower(), "")


def is_saved(path: Path) -> bool:
    """Whether the path is a folder that ``Dataset.save_to_disk`` wrote.

    Raises:
        UserError: It is one of ``DatasetDict.save_to_disk``, which holds a folder for each split.
    """
    if (path / "dataset_dict.json").is_file():
        splits = sorted(file.name for file in path.iterdir() if file.is_dir())
        raise UserError(
            f"{path} holds several splits (a DatasetDict that was saved to disk): name the folder "
            f"of one, such as {path / (splits[0] if splits else 'train')} (there are "
            f"{', '.join(splits) or 'none'})"
        )
    return (path / "state.json").is_file() and (path / "dataset_info.json").is_file()


def is_pattern(path: Path) -> bool:
    """Whether the path is a glob pattern (a file that is really called so is none)."""
    return glob.has_magic(str(path)) and not path.exists()


def below(root: Path, path: str) -> Path:
    """A file, folder or pattern below a folder, whose own name is no pattern."""
    plain = root / path
    if not glob.has_magic(path) or plain.exists():
        return plain
    return Path(glob.escape(str(root))) / path


def source_files(path: Path, given: Format | None = None) -> list[Path]:
    """The file itself, or the files of a folder or a glob pattern (``**``: at any depth) by name.

    ``given``: the format that the source says. In a folder it is that of the files that are read
    by their names; a file or a pattern may have any name then.

    Hidden files are left out, and files such as a README, of which a line is said. A folder that
    holds anything else that is not read is refused: a file that is half downloaded, or a subfolder,
    must not be passed over in silence.

    Raises:
        UserError: There is no file, one of no kind that is read, files of several kinds, or a file
            twice.
    """
    if is_pattern(path):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = _data_files([file for file in found if not file.is_dir()], path)
        if not files:
            raise UserError(f"no file matches {path}: correct the pattern, or data.root=DIR")
    elif is_saved(path):
        return [path]
    elif path.is_dir():
        files = _folder_files(path)
    else:
        return [path]
    _refuse_mixed(files, path, given)
    _refuse_twice(files)
    return files


def _data_files(files: list[Path], path: Path) -> list[Path]:
    """The files but for those that hold no data, where there are others."""
    left_out = [file for file in files if _NO_DATA.fullmatch(file.name)]
    kept = [file for file in files if not _NO_DATA.fullmatch(file.name)]
    if not kept or not left_out:
        return files
    say_once(path, f"{path}: {_names(left_out)} left out, by name no data (name a file to read it)")
    return kept


def _refuse_mixed(files: list[Path], path: Path, given: Format | None) -> None:
    kinds: dict[Format, list[Path]] = {}
    for file in files:
        kinds.setdefault(file_kind(file, given).format, []).append(file)
    if len(kinds) > 1:
        held = "; ".join(f"{kind}: {_names(some)}" for kind, some in kinds.items())
        # Of as many each, text is more likely what stands beside data.
        most = max(kinds.values(), key=lambda some: (len(some), some is not kinds.get("txt")))
        raise UserError(
            f"{path} has files of several kinds ({held}): name those of one kind with a pattern, "
            f"such as {_pattern(path, most[0])}, and others in a source of their own"
        )


def _refuse_twice(files: list[Path]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for file in files:
        unpacked = str(file.with_suffix("") if compression_of(file) else file)
        for key in (("name", unpacked), ("file", os.path.realpath(file))):
            other = seen.setdefault(key, file)
            if other is not file:
                why = "packed and unpacked" if key[0] == "name" else "one file with two names"
                raise UserError(
                    f"{other} and {file} look like {why}, whose rows would be read twice: remove "
                    "one, or name the files that are read with a pattern"
                )


def _pattern(path: Path, file: Path) -> str:
    """A pattern for the files of a folder, or of a pattern, that are called like one of them."""
    suffixes = file.suffixes[-2 if compression_of(file) else -1 :]
    folder = path if path.is_dir() else path.parent
    return str(folder / f"*{''.join(suffixes)}")


def _folder_files(folder: Path) -> list[Path]:
    try:
        inside = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from error
    if saved := [file for file in inside if file.suffix == ".arrow"]:
        raise UserError(f"{saved[0]} is {known_by_suffix(saved[0])}")
    inside = _data_files(inside, folder)
    others = [file for file in inside if not _is_read(file) or _NO_DATA.fullmatch(file.name)]
    known = next((f". {file} is {text}" for file in others if (text := known_by_suffix(file))), "")
    if len(others) == len(inside):
        held = f"holds only {_names(others)}" if others else "is an empty folder"
        raise UserError(f"{folder} {held}: give a folder with files to read ({KINDS_TEXT}){known}")
    if others:
        pattern = _pattern(folder, next(file for file in inside if file not in others))
        raise UserError(
            f"{folder} also holds {_names(others)}, which is not read: name what is with a "
            f"pattern, such as {pattern} ({KINDS_TEXT}){known}"
        )
    return inside


def _is_read(file: Path) -> bool:
    try:
        return bool(file_kind(file)) and not file.is_dir()
    except UserError:
        return False


def _names(files: list[Path]) -> str:
    names = [file.name for file in files]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def unreadable(path: Path, error: OSError) -> UserError:
    """The error of a file that cannot be opened."""
    return UserError(
        f"cannot read {path}: {error.strerror}. Correct the path, or set data.root=DIR to the "
        "folder that it is relative to"
    )
