"""Rows from TMX, the exchange format of translation memories: a row a translation unit.

The format is that of TMX 1.4b (LISA OSCAR, 2005), of which earlier versions are a part.
"""

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, ParseError, iterparse

from dlm.data.sources.bad_rows import BadRows
from dlm.data.sources.opening import ByteReader
from dlm.data.sources.places import Place, Row
from dlm.errors import UserError

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_CODES = ("bpt", "ept", "it", "ph", "ut")
"""Elements within a segment that hold codes of the document's format, and no text."""


def tmx_rows(file: ByteReader, origin: str, bad_rows: BadRows) -> Iterator[tuple[Place, Row]]:
    """Every unit as texts by language, which is written as in the file; numbered from 1.

    Raises:
        UserError: The file is not XML, or no TMX.
    """
    try:
        for number, unit in enumerate(_units(file, origin), start=1):
            row, problem = _unit(unit)
            if problem:
                bad_rows.bad(Place(origin, number), problem)
            else:
                yield Place(origin, number), row
    except ParseError as error:
        raise UserError(f"{origin}: not XML ({error}): write or download the file again") from error


def _units(file: ByteReader, origin: str) -> Iterator[Element]:
    open_: list[Element] = []
    for event, element in iterparse(_Reader(file), events=("start", "end")):
        if event == "start":
            element.tag = element.tag.rpartition("}")[2]  # without a namespace
            if not open_ and element.tag != "tmx":
                raise UserError(f"{origin}: XML with the root <{element.tag}>, where TMX has <tmx>")
            open_.append(element)
            continue
        open_.pop()
        if element.tag == "tu":
            yield element
            open_[-1].clear()  # what was read takes no memory


class _Reader:
    """The file, for a parser that may ask for all of it."""

    def __init__(self, file: ByteReader) -> None:
        self._file = file

    def read(self, size: int = 1 << 16) -> bytes:
        return self._file.read(size)


def _unit(unit: Element) -> tuple[Row, str]:
    row: dict[str, Any] = {}
    for variant in unit.iterfind("tuv"):
        language = variant.get(_LANGUAGE) or variant.get("lang")
        if language is None:
            return {}, "a <tuv> without xml:lang: give it one, or remove the unit"
        if language in row:
            return {}, f"two texts of '{language}': keep one of them"
        segment = variant.find("seg")
        row[language] = "" if segment is None else _text(segment)
    return row, "" if row else "a unit without a text: remove it"


def _text(element: Element) -> str:
    """The text of a segment; codes are left out, what stands behind them is not."""
    text = element.text or ""
    for inner in element:
        text += ("" if inner.tag in _CODES else _text(inner)) + (inner.tail or "")
    return text
