"""Templates: a row's fields become a prompt and a response, or the row is named."""

from pathlib import Path
from typing import Any

import pytest

from dlm.data.prompts import Template, stream_examples
from dlm.data.sources import Place, Source
from dlm.errors import UserError

FIRST = Place("file", 1)


@pytest.mark.parametrize(
    ("task", "row", "filled"),
    [
        ("text", {"text": " one "}, ("", " one ")),
        ("translation", {"src": "eins", "tgt": "one"}, ("eins", "one")),
        ("instruction", {"inputs": "say one", "targets": "one"}, ("say one", "one")),
    ],
)
def test_every_task_has_its_template(task: str, row: dict[str, str], filled: Any) -> None:
    assert Template.of(task).fill(row, FIRST) == filled


def test_indentation_and_line_ends_of_a_row_stay() -> None:
    """Code, poems, tables: as docs/guides/your-data.md says, text is taken as it is."""
    row = {"inputs": "\n def f(x):\n", "targets": "    if x:\n        return 1\n\n"}
    assert Template.of("instruction").fill(row, FIRST) == (row["inputs"], row["targets"])
    assert Template("  Go on: {inputs}", "{targets}").fill(row, FIRST) == (
        "Go on: \n def f(x):\n", row["targets"]
    )  # fmt: skip


def test_blanks_of_the_template_itself_are_cut_at_the_ends() -> None:
    """And those beside fields that are empty, so that a missing input leaves nothing behind."""
    template = Template(" {src}\n\n{more} ", "\n{tgt}\n")
    row = {"src": "  a", "more": "", "tgt": " b "}
    assert template.fill(row, FIRST) == ("  a", " b ")
    assert template.fill({**row, "src": " "} | {"more": "c\n"}, FIRST) == ("c\n", " b ")


@pytest.mark.parametrize("empty", ["", " ", "\n\t"])
def test_a_response_of_blanks_alone_is_empty(empty: str) -> None:
    with pytest.raises(UserError, match="the text to learn is empty"):
        Template.of("translation").fill({"src": "a", "tgt": empty}, FIRST)


def test_either_part_may_be_replaced() -> None:
    template = Template.of("translation", prompt="Translate: {src}")
    assert template.fill({"src": "eins", "tgt": "one"}, FIRST) == ("Translate: eins", "one")
    assert template.fields == ["src", "tgt"]


def test_fields_are_put_in_as_they_are() -> None:
    template = Template("{a.b}: {src} {{src}}", "{two words}")
    row = {"a.b": "{src}", "src": "{tgt} %s \\n", "two words": "}{"}
    assert template.fill(row, FIRST) == ("{src}: {tgt} %s \\n {src}", "}{")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"src": "eins"}, "field 'tgt' is missing (the row has src)"),
        ({"src": "eins", "tgt_": "one"}, "did you mean 'tgt_'?"),
        ({"src": None, "tgt": "one"}, "field 'src' is null, not text"),
        ({"src": 1.5, "tgt": "one"}, "field 'src' is a number, not text"),
        ({"src": True, "tgt": "one"}, "field 'src' is true or false, not text"),
        ({"src": {}, "tgt": "one"}, "field 'src' is an object, not text"),
        ({"src": "eins", "tgt": "\n"}, "the text to learn is empty"),
        ({"src": "", "tgt": "one"}, "the prompt is empty"),
    ],
)
def test_a_row_that_does_not_fit_is_named(row: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        Template.of("translation").fill(row, Place("pairs.jsonl", 7, "line"))
    assert str(refused.value).startswith("pairs.jsonl, line 7: ")
    assert words in str(refused.value)


@pytest.mark.parametrize("text", ["{", "}", "{}", "{src:>5}", "{src!r}", "{0}{"])
def test_a_template_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"Write fields as \{name\}"):
        Template(text, "{tgt}").fill({"src": "eins", "tgt": "one"}, FIRST)


def test_rows_are_filled_with_their_lines_or_numbers(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("one\n\ntwo\n")
    source = Source(split="", path=path)
    filled = list(stream_examples(source, Template.of("text")))
    assert [example[:3] for example in filled] == [
        ((str(path), 1, "line"), "", "one"), ((str(path), 3, "line"), "", "two")
    ]  # fmt: skip
    generated = Source(split="train", generator="number_text", count=2)
    numbers = [e.place.number for e in stream_examples(generated, Template.of("text"))]
    assert numbers == [1, 2]
    with pytest.raises(UserError, match=r"generator number_text \(train\), row 1: field 'src'"):
        list(stream_examples(generated, Template.of("translation")))
