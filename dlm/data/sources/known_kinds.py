"""Kinds of files that people have and that are not read: their real names, and how to convert."""

import shlex
from pathlib import Path

_BY_SUFFIX = {
    ".zip": "a zip archive: unpack it, `unzip {file}`",
    ".tar": "a tar archive: unpack it, `tar -xf {file}`",
    ".tgz": "a tar archive: unpack it, `tar -xzf {file}`",
    ".7z": "a 7-Zip archive: unpack it, `7z x {file}`",
    ".rar": "a RAR archive: unpack it, `unrar x {file}`",
    ".lz4": "packed by lz4: unpack it, `lz4 -d {file}`",
    ".xlsx": "an Excel workbook: save the sheet as CSV (in Excel: CSV UTF-8), or "
    "`libreoffice --headless --convert-to csv {file}`",
    ".arrow": "an Arrow file: of a folder that save_to_disk wrote name the folder; else convert "
    "it: `python -c 'import datasets, sys; "
    "datasets.Dataset.from_file(sys.argv[1]).to_parquet(sys.argv[2])' {file} {stem}.parquet`",
    ".feather": "a Feather file: convert it: `python -c 'import pyarrow.feather as f, "
    "pyarrow.parquet as p, sys; p.write_table(f.read_table(sys.argv[1]), sys.argv[2])' {file} "
    "{stem}.parquet`",
    ".orc": "an ORC file: convert it: `python -c 'import pyarrow.orc as o, pyarrow.parquet as p, "
    "sys; p.write_table(o.read_table(sys.argv[1]), sys.argv[2])' {file} {stem}.parquet`",
    ".pkl": "a Python pickle: if you trust it and it is a pandas table, convert it: `python -c "
    "'import pandas, sys; pandas.read_pickle(sys.argv[1]).to_parquet(sys.argv[2])' {file} "
    "{stem}.parquet`",
    ".db": "an SQLite database: write the table as CSV: `sqlite3 -header -csv {file} 'SELECT * "
    "FROM table' > {stem}.csv`",
    ".xml": "XML, of which only TMX is read: if it is TMX, set `format: tmx`, else write the rows "
    "as JSON lines",
    ".yaml": "YAML: write the rows as JSON lines",
    ".pdf": "a PDF document: write its text to a .txt file, `pdftotext {file}`",
    ".docx": "a Word document: save it as plain text (.txt, UTF-8)",
}
_SAME = {".xls": ".xlsx", ".xlsm": ".xlsx", ".ods": ".xlsx", ".pickle": ".pkl", ".sqlite": ".db",
         ".sqlite3": ".db", ".yml": ".yaml", ".doc": ".docx", ".odt": ".docx"}  # fmt: skip

_BY_BEGINNING = {
    b"7z\xbc\xaf": ".7z",
    b"Rar!": ".rar",
    b"ARROW1": ".arrow",
    b"SQLite format 3\0": ".db",
    b"%PDF-": ".pdf",
}
_PACKED = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_UNPACK = {"gz": "gunzip", "bz2": "bunzip2", "xz": "unxz", "zst": "unzstd --rm"}
_TAR_MARK, _TAR_PLACE = b"ustar", 257
_POINTER = b"version https://git-lfs"


def known_by_suffix(path: Path) -> str | None:
    """What a file that is not read is, by its name, and how to convert it; None: not known."""
    tar = path.name.lower().endswith((".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"))
    return _known(".tar" if tar else path.suffix.lower(), path)


def _known(suffix: str, path: Path) -> str | None:
    text = _BY_SUFFIX.get(_SAME.get(suffix, suffix))
    if text is None:
        return None
    quoted, stem = shlex.quote(str(path)), shlex.quote(str(path.with_suffix("")))
    return text.replace("{file}", quoted).replace("{stem}", stem)


def known_by_beginning(path: Path, beginning: bytes, format_: str, packed: str) -> str | None:
    """What a file really is that is called as one of ``format_``; None: nothing that is known.

    ``packed``: how it is packed by its name; ``beginning`` is what is inside.
    """
    if beginning[_TAR_PLACE:].startswith(_TAR_MARK):
        return _known(".tar", path)
    if not packed:
        return _known_inside(path, beginning, format_)
    bare, unpack = path.with_suffix(""), f"{_UNPACK[packed]} {shlex.quote(str(path))}"
    for start, suffix in _PACKED.items():
        if beginning.startswith(start):
            again = f"mv {shlex.quote(str(bare))} {shlex.quote(f'{bare}.{suffix}')}"
            return f"packed twice: unpack it once, `{unpack} && {again}`"
    inside = _known_inside(bare, beginning, format_)
    return inside and f"packed: unpack it, `{unpack}`; inside is {inside}"


def _known_inside(path: Path, beginning: bytes, format_: str) -> str | None:
    if beginning.startswith(_POINTER):
        return "a git-lfs pointer and not the file itself: fetch it, `git lfs pull`"
    if format_ == "parquet":
        return None
    if beginning.startswith(b"PAR1"):
        return "Parquet: set `format: parquet` on the source, or rename it to .parquet"
    if beginning.startswith(b"PK\x03\x04"):
        return _workbook(path, ".xlsx") if b"xl/" in beginning else _known(".zip", path)
    if beginning.startswith(b"\xd0\xcf\x11\xe0"):
        return _workbook(path, ".xls")
    for start, suffix in _BY_BEGINNING.items():
        if beginning.startswith(start):
            return _known(suffix, path)
    for start, suffix in _PACKED.items():
        if beginning.startswith(start):
            return f"packed inside: rename it to {path.name}.{suffix}"
    web_page = beginning.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html"))
    if web_page and format_ != "txt":
        return "a web page: download the file itself, not the page that shows it"
    return None


def _workbook(path: Path, suffix: str) -> str:
    """A workbook that is called otherwise: to convert it by its name would write over it."""
    real = path.with_suffix(suffix)
    named = f"`mv {shlex.quote(str(path))} {shlex.quote(str(real))}`"
    return f"{_known(suffix, real)}; first give it its real name, {named}"
