"""Rows of a folder that the ``datasets`` library's ``save_to_disk`` wrote."""

import json
from collections.abc import Iterator
from pathlib import Path

from dlm.data.sources.arrow_values import library_rows, refuse_repeated
from dlm.data.sources.bad_rows import BadRows, placed_rows
from dlm.data.sources.places import Place, Row
from dlm.errors import UserError


def saved_rows(folder: Path, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """Every row, with its number from 1; what ``map`` and ``filter`` left beside it is no row.

    Raises:
        UserError: The library cannot load the folder, or it has a column twice.
    """
    return placed_rows(_loaded(folder), str(folder), bad_rows)


def _loaded(folder: Path) -> Iterator[Row]:
    import pyarrow
    from datasets import load_from_disk

    files = saved_files(folder)
    try:
        for file in files:
            with pyarrow.memory_map(str(file)) as raw:
                refuse_repeated(pyarrow.ipc.open_stream(raw).schema, str(file))
        yield from library_rows(load_from_disk(str(folder)))
    except UserError:
        raise
    except Exception as error:  # the library raises many kinds
        raise UserError(
            f"{folder} cannot be loaded as a saved data set ({error}): save it again with "
            "save_to_disk, or write its rows as Parquet (Dataset.to_parquet)"
        ) from error


def saved_files(folder: Path) -> list[Path]:
    """The files that hold the rows, in their order.

    Raises:
        UserError: The folder does not say which these are.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'state.json'} does not list the data's files ({error!r}): save the data "
            "set again with save_to_disk"
        ) from error
    return [folder / name for name in names]
