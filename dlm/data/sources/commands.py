"""Commands of messages, which convert a file that is not read: as it is packed and encoded."""

import shlex
from pathlib import Path

from dlm.data.sources.files import COMPRESSIONS, compression_of

_OPENERS = {
    "": ("", 'open(sys.argv[1], "rb")'),
    "gz": ("gzip, ", "gzip.open(sys.argv[1])"),
    "bz2": ("bz2, ", "bz2.open(sys.argv[1])"),
    "xz": ("lzma, ", "lzma.open(sys.argv[1])"),
    "zst": ("pyarrow, ", 'pyarrow.input_stream(sys.argv[1], compression="zstd")'),
}
"""How a file is packed -> what a program imports, and how it opens the file."""
TEXT = "TEXT"
"""Stands in a program for the text of the file."""


def python_command(program: str, imports: str, path: Path, encoding: str, suffix: str) -> str:
    """A command that runs a program over the text of a file and writes ``NAME.rows.suffix``."""
    module, opened = _OPENERS[compression_of(path)]
    # With "-sig" a byte order mark is no text; UTF-16 and UTF-32 pass over it by themselves.
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    text = f'{opened}.read().decode("{encoding}")'
    whole = f"import {module}{imports}, sys; {program.replace(TEXT, text)}"
    return f"python -c {shlex.quote(whole)} {shlex.quote(str(path))} > {_written(path, suffix)}"


def _written(path: Path, suffix: str) -> str:
    bare = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return shlex.quote(f"{bare.with_suffix('')}.rows.{suffix}")
