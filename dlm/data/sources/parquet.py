"""Rows from Parquet, batch by batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlm.data.sources.arrow_values import batch_rows, refuse_repeated
from dlm.data.sources.bad_rows import BadRows
from dlm.data.sources.files import unreadable
from dlm.data.sources.opening import damaged, unchanged
from dlm.data.sources.places import NUL_REASON, Place, Row, has_nul

_BATCH_ROWS = 1024


def parquet_rows(path: Path, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """Every row by column, with its number from 1.

    Raises:
        UserError: The file cannot be opened, is damaged, has a column twice, or was changed while
            it was read.
    """
    with unchanged(path):
        number = 0
        for batch in _batches(path):
            for row in batch_rows(batch):
                number += 1
                place = Place(str(path), number)
                if isinstance(row, UnicodeDecodeError):
                    reason = f"not UTF-8 ({row.reason}): correct the text, or remove the row"
                    bad_rows.bad(place, reason)
                elif has_nul(row):
                    bad_rows.bad(place, NUL_REASON)
                else:
                    yield place, row


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        raw = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with raw:
        try:
            # A buffer and no prefetch: a row group may be the whole file.
            file = ParquetFile(raw, buffer_size=1 << 20, pre_buffer=False)
            refuse_repeated(file.schema_arrow, str(path))
            yield from file.iter_batches(batch_size=_BATCH_ROWS)
        except (OSError, pyarrow.ArrowException) as error:
            raise damaged(path, error) from error
