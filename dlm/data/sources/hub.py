"""Rows of a Hugging Face data set, from its cache or over the network."""

from collections.abc import Iterator
from typing import Any

from dlm.data.sources.arrow_values import library_rows
from dlm.data.sources.bad_rows import BadRows, placed_rows
from dlm.data.sources.places import Place, Row
from dlm.data.sources.source import Source
from dlm.errors import UserError


def hub_rows(source: Source, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """Every row of the split, with its number from 1.

    Raises:
        UserError: The data set cannot be loaded, or the network ends while it is streamed.
    """
    return placed_rows(_loaded(source), source.place, bad_rows)


def _loaded(source: Source) -> Iterator[Row]:
    from datasets import load_dataset

    options: dict[str, Any] = {"streaming": True} if source.streaming else {}
    if source.hub_files is not None:
        options["data_files"] = source.hub_files
    try:
        data = load_dataset(
            source.hub, source.hub_config, split=source.split, revision=source.revision, **options
        )
        yield from library_rows(data)
    except Exception as error:  # the hub's client raises many kinds
        raise UserError(
            f"{source.place} cannot be loaded: {error}. Without a network set data.root=DIR to "
            "a folder with local files, or fill the hub's cache on a machine that has one"
            + (" (streaming keeps no cache: set streaming: false)" if source.streaming else "")
        ) from error
