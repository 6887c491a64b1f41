"""Whether JSON is a row a line, one array, or objects over lines; what wraps its rows is refused.

A file that is one object around its rows has no rows to read: its real shape is named, with the
command that writes them as JSON lines.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Literal

from dlm.errors import UserError

Layout = Literal["lines", "array", "objects"]
_JSON = json.JSONDecoder()
_KEY = re.compile(r'\s*,?\s*("(?:[^"\\]|\\.)*")\s*:\s*')
_LISTS_OF_ONE_ROW = {
    "messages", "conversations", "conversation", "dialog", "dialogue", "turns", "answers",
    "choices", "options", "tools", "functions", "documents", "entities", "annotations",
}  # fmt: skip
"""Fields of a single row whose values are lists of objects."""
_ESCAPE = 12
"""Characters of the longest escape (a surrogate pair), which may be cut off."""
_BEGUN = 4096
"""Characters of a value that goes on behind the text."""


def json_layout(text: str, path: Path, format_: str, *, whole: bool) -> Layout:
    """The layout of JSON by its beginning; ``whole``: the text is all of the file.

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
        _refuse_wrapped(_outline(text), path, sure=not rest)
        return "objects" if rest else "lines"
    if whole and not text[end:].strip():
        _refuse_wrapped(value, path, sure=line_is_value and format_ == "jsonl")
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


def _refuse_wrapped(value: dict[str, Any], path: Path, *, sure: bool) -> None:
    """Raise where one object, alone in its file, wraps rows.

    ``sure``: only in a shape that no row has; the object may be a row that holds lists.
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
    elif sure:
        return
    elif wrapping := [
        key for key, v in known.items() if key not in _LISTS_OF_ONE_ROW and _is_list(v, dict)
    ]:
        shape = f"one object, with the rows in a list under '{wrapping[0]}'"
        code = f"rows = json.load(open(sys.argv[1]))[{json.dumps(wrapping[0])}]"
    elif _are_columns(known):
        shape, code = "one object, with a list of values for each field", _LISTS
    if shape:
        raise UserError(f"{path} is {shape}: write a row a line, `{_command(code, path)}`")


_SQUAD = (
    'rows = ({"context": p["context"], **q, "answers": [a["text"] for a in q["answers"]]} '
    'for d in json.load(open(sys.argv[1]))["data"] for p in d["paragraphs"] for q in p["qas"])'
)
_SPLIT = (
    'd = json.load(open(sys.argv[1])); rows = (dict(zip(d["columns"], row)) for row in d["data"])'
)
_COLUMNS = (
    "d = json.load(open(sys.argv[1])); "
    "rows = ({n: c[i] for n, c in d.items()} for i in next(iter(d.values())))"
)
_LISTS = "d = json.load(open(sys.argv[1])); rows = (dict(zip(d, r)) for r in zip(*d.values()))"


def _command(code: str, path: Path) -> str:
    program = f"import json, sys; {code}; [print(json.dumps(row)) for row in rows]"
    files = f"{shlex.quote(str(path))} > {shlex.quote(str(path.with_suffix('')) + '.rows.jsonl')}"
    return f"python -c {shlex.quote(program)} {files}"


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
