"""Whether JSON is a row a line, one array, or objects over lines; what wraps its rows is refused.

A file that is one object around its rows has no rows to read: its real shape is named, with the
command that writes them as JSON lines.
"""

import json
import re
from pathlib import Path
from typing import Any, Literal

from dlm.data.sources.commands import TEXT, python_command
from dlm.data.sources.places import names_of
from dlm.errors import UserError

Layout = Literal["lines", "array", "objects"]
_JSON = json.JSONDecoder()
_KEY = re.compile(r'\s*,?\s*("(?:[^"\\]|\\.)*")\s*:\s*')
_LISTS_OF_ONE_ROW = {
    "messages", "conversations", "conversation", "dialog", "dialogue", "turns", "answers",
    "choices", "options", "tools", "functions", "documents", "entities", "annotations",
}  # fmt: skip
"""Fields of a single row whose values are lists of objects."""
_LISTS_OF_ROWS = {"data", "rows", "examples", "instances", "items", "records", "samples", "train"}
"""Names that lists of rows have, whatever else is beside them."""
_ROWS_BY_KEY, _SURELY_BY_KEY = 3, 100
"""So many objects that share a key are rows, and no fields of one row; the second: in any file."""
_ESCAPE = 12
"""Characters of the longest escape (a surrogate pair), which may be cut off."""
_BEGUN = 4096
"""Characters of a value that goes on behind the text."""


def json_layout(text: str, path: Path, format_: str, encoding: str, *, whole: bool) -> Layout:
    """The layout of JSON by its beginning; ``whole``: the text is all of the file.

    ``encoding`` is that of the file, for the command of a message.

    Raises:
        UserError: It is one object that wraps rows in a way that is not read.
    """
    text = text.lstrip()
    line, _, rest = text.partition("\n")
    rest = rest.lstrip()
    line_is_value = _is_value(line)
    if text.startswith("["):
        inside = text[1:].lstrip()[:1]
        several = line_is_value and rest.startswith("[")
        return "array" if format_ == "json" or (inside in "{]" and not several) else "lines"
    if not text.startswith("{") or (line_is_value and rest):
        return "lines"
    try:
        value, end = _JSON.raw_decode(text)
    except (ValueError, RecursionError) as error:
        if whole or not _goes_on(error, text):
            return "objects" if line.strip() == "{" else "lines"
        _refuse_wrapped(_outline(text), path, format_, encoding, sure=not rest)
        return "objects" if rest else "lines"
    if whole and not text[end:].strip():
        sure = line_is_value and format_ == "jsonl"
        _refuse_wrapped(value, path, format_, encoding, sure=sure)
    return "objects" if end > len(line) else "lines"


def _goes_on(error: Exception, text: str) -> bool:
    """Whether JSON is wrong only because its text is cut off."""
    return "Unterminated" in str(error) or getattr(error, "pos", 0) > len(text) - _ESCAPE


def _is_value(text: str) -> bool:
    try:
        _, end = _JSON.raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return not text[end:].strip()


def _outline(text: str) -> dict[str, Any]:
    """The keys and values of an object that goes on behind the text; of the last value the text."""
    found: dict[str, Any] = {}
    position = 1
    while key := _KEY.match(text, position):
        try:
            value, position = _JSON.raw_decode(text, key.end())
        except (ValueError, RecursionError):
            found[json.loads(key[1])] = _Begun(text[key.end() : key.end() + _BEGUN])
            break
        found[json.loads(key[1])] = value
    return found


class _Begun(str):
    """The beginning of a value, as it is written."""

    def value(self) -> Any:
        """An empty value of its kind, with what can be told of its first item."""
        kinds = {r"\[\s*\{": [{}], r"\[\s*\[": [[]], r"\[": [""], r'\{\s*"0"\s*:': {"0": ""}}
        return next((kind for form, kind in kinds.items() if re.match(form, self)), None)


def _refuse_wrapped(
    value: dict[str, Any], path: Path, format_: str, encoding: str, *, sure: bool
) -> None:
    """Raise where one object, alone in its file, wraps rows.

    ``sure``: only in a shape that no row has; the object may be a row that holds lists. (In a file
    called JSON a list with the name of rows is such a shape.)
    """
    is_squad = "data" in value and '"paragraphs"' in (
        value["data"] if isinstance(value["data"], _Begun) else json.dumps(value["data"])[:_BEGUN]
    )
    known = {key: v.value() if isinstance(v, _Begun) else v for key, v in value.items()}
    shape = ""
    if is_squad:
        shape, code = "SQuAD's JSON, paragraphs with their questions", _SQUAD
    elif known.keys() >= {"columns", "data"} and _is_list(known["data"], list):
        shape = "pandas' JSON of orient='split', a list of columns and a list of rows"
        code = _SPLIT
    elif known and all(_is_indexed(column) for column in known.values()):
        shape, code = "pandas' JSON, a column of rows by number for each field", _COLUMNS
    elif _are_rows_by_key(value, _SURELY_BY_KEY if sure else _ROWS_BY_KEY):
        shape, code = "one object, with a row under each of its keys", _BY_KEY
    elif (wrapping := _lists_of_rows(value, known)) and (
        not sure or (format_ == "json" and wrapping[0].lower() in _LISTS_OF_ROWS)
    ):
        first, *others = wrapping
        shape = f"one object, with the rows in a list under '{first}'"
        if others:
            shape += f" (or under {names_of(repr(other) for other in others)})"
        code = f"rows = d[{json.dumps(first)}]"
    elif not sure and _are_columns(known):
        shape, code = "one object, with a list of values for each field", _LISTS
    if shape:
        program = f"d = json.loads({TEXT}); {code}; [print(json.dumps(row)) for row in rows]"
        command = python_command(program, path, encoding, "jsonl", "json")
        raise UserError(f"{path} is {shape}: write a row a line, `{command}`")


_SQUAD = (
    'rows = ({"context": p["context"], **q, "answers": [t["text"] for t in q["answers"]]} '
    'for a in d["data"] for p in a["paragraphs"] for q in p["qas"])'
)
_SPLIT = 'rows = (dict(zip(d["columns"], row)) for row in d["data"])'
_COLUMNS = "rows = ({n: c[i] for n, c in d.items()} for i in next(iter(d.values())))"
_LISTS = "rows = (dict(zip(d, r)) for r in zip(*d.values()))"
_BY_KEY = 'rows = ({"id": k, **row} for k, row in d.items())'


def _lists_of_rows(value: dict[str, Any], known: dict[str, Any]) -> list[str]:
    """The keys of lists of objects: first those with the name of rows, then the longest. The list
    that goes on behind the text is longer than all before it."""
    found = [key for key, v in known.items() if key not in _LISTS_OF_ONE_ROW and _is_list(v, dict)]
    return sorted(
        found,
        key=lambda key: (
            key.lower() in _LISTS_OF_ROWS, isinstance(value[key], _Begun), len(known[key]),
        ),
        reverse=True,
    )  # fmt: skip


def _are_rows_by_key(value: dict[str, Any], least: int) -> bool:
    """Whether the values are objects that share a key, as many as that."""
    rows = [v for v in value.values() if not isinstance(v, _Begun)]
    if len(rows) < least or not all(isinstance(row, dict) for row in rows):
        return False
    return bool(set(rows[0]).intersection(*rows[1:]))


def _is_list(value: Any, item: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, item) for v in value)


def _is_indexed(value: Any) -> bool:
    """Whether a value is a column with the numbers 0, 1, ... as keys."""
    return isinstance(value, dict) and list(value) == [str(n) for n in range(len(value))] != []


def _are_columns(value: dict[str, Any]) -> bool:
    lists = [v for v in value.values() if isinstance(v, list)]
    plain = all(not isinstance(item, list | dict) for v in lists for item in v)
    lengths = {len(v) for v in lists}
    return len(lists) == len(value) > 1 and plain and len(lengths) == 1 and lengths != {0}
