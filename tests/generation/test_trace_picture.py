"""The trace as a moving picture: well-formed XML in which every iteration shows its tokens."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from test_trace import HOSTILE, trace_file

from dlm.generation.trace import Frame, Trace, TraceFile
from dlm.generation.trace_picture import trace_picture

SVG = "{http://www.w3.org/2000/svg}"


def frames(picture: str) -> list[ElementTree.Element]:
    """The groups of an iteration each."""
    return [g for g in ElementTree.fromstring(picture) if g.tag == f"{SVG}g"]


def texts(group: ElementTree.Element, kind: str) -> list[str]:
    return [e.text or "" for e in group.iter(f"{SVG}text") if e.get("class") == kind]


def test_each_iteration_shows_its_tokens_and_as_many_noise_slots_as_it_has() -> None:
    file = trace_file()
    groups = iter(frames(trace_picture(file)))
    for trace in file.traces:
        for number, frame in enumerate(trace.history, start=1):
            group = next(groups)
            held = [token.strip() for token in file.tokens(frame) if token is not None]
            assert texts(group, "set") == held
            noise = [e for e in group.iter(f"{SVG}rect") if e.get("class") == "noise"]
            assert len(noise) == sum(frame.noise)
            assert texts(group, "quiet") == [f"iteration {number} of {len(trace.history)}"]
    assert next(groups, None) is None


@pytest.mark.parametrize(
    "text", [HOSTILE, "\x00\x0b\x1b[31m", "\ud800 half", "日本語 一二三 " * 30]
)
def test_any_prompt_is_text_in_it_and_nothing_is_fetched(text: str) -> None:
    file = trace_file(["a dog"])
    traces = [file.traces[0], replace(file.traces[0], prompt=text, answer=text)]
    picture = trace_picture(replace(file, traces=traces))
    root = ElementTree.fromstring(picture)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} == {
        "svg", "title", "style", "rect", "g", "text",
    }  # fmt: skip
    assert not any(word in picture for word in ("url(", "href", "@import", "<script"))
    width = float(root.get("width", "0"))
    for box in root.iter(f"{SVG}rect"):
        if box.get("x") is not None:
            assert float(box.get("x", "0")) + float(box.get("width", "0")) <= width


def test_fixed_words_of_an_infilling_stand_between_the_slots() -> None:
    class Letters:
        def piece(self, token_id: int) -> str:
            return f" {chr(token_id)}"

    frame = Frame([97, 98], [False, False], [False, False], [-0.1, -0.2])
    trace = Trace(None, "", 0.0, ("one two", "three", "four"), (1, 1), (frame,))
    picture = trace_picture(TraceFile("m", {}, [trace], Letters()))  # type: ignore[arg-type]
    root = ElementTree.fromstring(picture)
    drawn = [e for e in root.iter(f"{SVG}text") if e.get("class") in ("fixed", "set")]
    left = sorted(drawn, key=lambda e: float(e.get("x", "0")))
    assert [e.text for e in left] == ["one", "two", "a", "three", "b", "four"]
    assert len({e.get("y") for e in drawn}) == 1
