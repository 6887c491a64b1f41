"""Commands of messages, which convert a file that is not read: as it is packed and encoded."""

import shlex
from pathlib import Path

from dlm.data.sources.files import compression_of

_OPENERS = {
    "": ("sys", 'open(sys.argv[1], "rb")'),
    "gz": ("sys, gzip", "gzip.open(sys.argv[1])"),
    "bz2": ("sys, bz2", "bz2.open(sys.argv[1])"),
    "xz": ("sys, lzma", "lzma.open(sys.argv[1])"),
    "zst": ("sys, pyarrow", 'pyarrow.input_stream(sys.argv[1], compression="zstd")'),
}
"""How a file is packed -> what a program imports to open it, and how it does."""
TEXT = "TEXT"
"""Stands in a program for the text of the file."""


def python_command(program: str, path: Path, encoding: str, suffix: str, *imports: str) -> str:
    """A command that runs a program over the text of a file and writes ``NAME.rows.suffix``."""
    modules, opened = _OPENERS[compression_of(path)]
    # With "-sig" a byte order mark is no text; UTF-16 and UTF-32 pass over it by themselves.
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    text = f'{opened}.read().decode("{encoding}")'
    whole = f"import {', '.join([modules, *imports])}; {program.replace(TEXT, text)}"
    bare = path.with_suffix("") if compression_of(path) else path
    written = f"{bare.with_suffix('')}.rows.{suffix}"
    return (
        f"python -X utf8 -c {shlex.quote(whole)} {shlex.quote(str(path))} > {shlex.quote(written)}"
    )
