"""Write the same rows in every format and packing."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet

TextRow = dict[str, str]


def _delimited(rows: list[TextRow], delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(rows: list[TextRow]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


WRITERS: dict[str, Callable[[list[TextRow]], bytes]] = {
    "txt": lambda rows: "".join(row["text"] + "\n" for row in rows).encode(),
    "jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "json": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False).encode(),
    "csv": lambda rows: _delimited(rows, ","),
    "tsv": lambda rows: _delimited(rows, "\t"),
    "parquet": _parquet,
}


def _zst(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": _zst,
}
KINDS = [
    f"{format_}{packing}"
    for format_ in WRITERS
    for packing in PACKERS
    if not (format_ == "parquet" and packing)
]
"""Every file ending that is read: txt, txt.gz, ..., parquet."""


def write(folder: Path, kind: str, rows: list[TextRow], stem: str = "rows") -> Path:
    """``rows`` in a file of the kind (an item of ``KINDS``)."""
    format_, dot, packing = kind.partition(".")
    path = folder / f"{stem}.{kind}"
    path.write_bytes(PACKERS[dot + packing](WRITERS[format_](rows)))
    return path
