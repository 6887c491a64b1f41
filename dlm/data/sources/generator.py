"""Rows that a generator makes."""

from collections.abc import Callable, Iterator
from typing import Any

from dlm.data.sources.places import Place, Row
from dlm.data.sources.source import Source
from dlm.errors import UserError


def generated_rows(source: Source) -> Iterator[tuple[Place, Row]]:
    """The generator's rows, with their numbers from 1.

    Raises:
        UserError: There is no such generator, or its options are wrong.
    """
    from dlm.data.generated import generate

    for number, row in enumerate(_called(generate, source), start=1):
        yield Place(source.place, number), row


def generated_identity(source: Source) -> Any:
    """What decides the rows; raises as :func:`generated_rows`."""
    from dlm.data.generated import identity

    return _called(identity, source)


def _called(call: Callable[..., Any], source: Source) -> Any:
    if type(source.seed) is not int:
        raise UserError(f"{source.place}: seed must be a whole number, not {source.seed!r}")
    try:
        return call(
            source.generator,
            split=source.split,
            count=source.count,
            seed=source.seed,
            **source.options,
        )
    except ValueError as error:
        raise UserError(f"{source.place}: {error}") from error
