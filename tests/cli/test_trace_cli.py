"""dlm generate --trace, --infill, --prefix/--suffix/--span: what they write, what is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Caller, TrainedRun, dlm

from dlm.models.sums import write_sums

PROMPTS = ["seven", "two hundred and seven"]
GIVEN = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
INFILL = "two [MASK:2] and [MASK] is five"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_trace_as_lines_has_one_for_each_prompt_and_iteration(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.jsonl"
    plain = call("generate", trained.directory, *GIVEN)
    outcome = call("generate", trained.directory, *GIVEN, "--steps", "3", "--trace", trace)
    assert outcome.code == 0
    assert outcome.out == plain.out
    assert f"trace of 2 answers in {trace}" in outcome.err
    rows = lines(trace)
    assert [(row["prompt"], row["iteration"]) for row in rows] == [
        (prompt, iteration) for prompt in PROMPTS for iteration in (1, 2, 3)
    ]
    assert [row["answer"] for row in rows[2::3]] == outcome.out.splitlines()


def test_a_trace_as_a_page_names_the_model_and_its_settings(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    trace, output = tmp_path / "trace.html", tmp_path / "out.jsonl"
    words = ("--input", tmp_path / "in.jsonl", "--output", output, "--trace", trace)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    outcome = call("generate", trained.directory, *words, "--sampler", "frozen-linear")
    assert outcome.code == 0 and outcome.out.strip() == f"2 answers in {output}"
    found = re.search(r'id="trace">(.*?)</script>', trace.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert data["model"] == str(trained.directory)
    assert data["settings"]["sampler"] == "frozen-linear"
    assert data["settings"]["num_iterations"] == 10  # the sampler's own, not the recipe's 3
    assert [trace["answer"] for trace in data["traces"]] == [row["text"] for row in lines(output)]
    assert [trace["score"] for trace in data["traces"]] == [
        round(float(str(row["score"])), 4) for row in lines(output)
    ]


def test_a_trace_that_cannot_be_written_is_refused_before_any_work(
    call: Caller, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlm.verbs.models.open_located", None)  # not to be reached
    (tmp_path / "folder.html").mkdir()
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "seven"}\n')
    places: dict[str | Path, str] = {
        "trace.txt": "must end in .html (a page that replays the canvas), .svg (a moving",
        "trace": "must end in .html",
        "": "must end in .html",
        tmp_path / "nowhere" / "t.html": f"there is no directory {tmp_path / 'nowhere'}: make it",
        tmp_path / "folder.html": "is a directory: give it a file",
        "/proc/trace.html": "cannot be written (",
        source: "is the file of --input too: give it another name",
        tmp_path / "folder.html" / ".." / "out.jsonl": "is the file of --output too",
    }
    for place, text in places.items():
        words = ("--input", source, "--output", tmp_path / "out.jsonl", "--trace", place)
        outcome = call("generate", trained.directory, *words)
        assert outcome.code == 2
        assert f"--trace {place}" in outcome.err and text in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.html", "in.jsonl"]
    assert source.read_text() == '{"prompt": "seven"}\n'


def test_a_refused_answer_leaves_an_earlier_trace_as_it_was(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.html"
    trace.write_text("earlier")
    outcome = call("generate", trained.directory, "--prompt", "one " * 80, "--trace", trace)
    assert outcome.code == 2
    assert trace.read_text() == "earlier"


@pytest.mark.parametrize(
    "words",
    [("--prompt", "a", "--trace", "t.html"), ("--infill", "[MASK]"),
     ("--prefix", "a", "--span", "2")],
    ids=" ".join,
)  # fmt: skip
def test_an_autoregressive_model_has_no_canvas(
    words: tuple[str, ...], call: Caller, trained: TrainedRun, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    shutil.copytree(trained.stage("length") / "export", model)
    (model / "dlm.json").write_text(json.dumps({"kind": "autoregressive"}))
    write_sums(model)
    outcome = call("generate", model, *words)
    assert outcome.code == 2
    assert f"{model} is an autoregressive model" in outcome.err
    assert "name a diffusion model" in outcome.err
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize("stage", ["pretrain", "length"])
def test_a_text_is_completed_by_any_stage_and_kept_to_the_letter(
    stage: str, call: Caller, trained: TrainedRun
) -> None:
    outcome = call("generate", trained.stage(stage), "--infill", INFILL)
    assert outcome.code == 0
    assert re.fullmatch(r"two .* and .* is five\n", outcome.out)
    assert "[MASK" not in outcome.out


def test_standard_output_holds_the_completed_text_alone(trained: TrainedRun) -> None:
    outcome = dlm("generate", trained.stage("pretrain"), "--infill", INFILL)
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 1


def test_prefix_suffix_and_span_say_the_same_as_infill(call: Caller, trained: TrainedRun) -> None:
    model = trained.stage("pretrain")
    for prefix, suffix in (("two ", " five"), ("two ", ""), ("", " five"), ("two", "five")):
        expected = call("generate", model, "--infill", f"{prefix}[MASK:3]{suffix}")
        given = [*(("--prefix", prefix) * bool(prefix)), *(("--suffix", suffix) * bool(suffix))]
        outcome = call("generate", model, *given, "--span", "3")
        assert expected.code == outcome.code == 0
        assert outcome.out == expected.out


def test_completed_texts_are_written_as_lines_and_traced(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    output, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    texts = [INFILL, "[MASK:4]"]
    words = [word for text in texts for word in ("--infill", text)]
    outcome = call("generate", trained.directory, *words, "--output", output, "--trace", trace)
    assert outcome.code == 0
    rows = lines(output)
    assert [list(row) for row in rows] == [["infill", "text", "spans", "score"]] * 2
    assert [row["infill"] for row in rows] == texts
    first, second = rows[0]["spans"]
    assert rows[0]["text"] == f"two {first} and {second} is five"
    frames = lines(trace)
    assert [row["iteration"] for row in frames] == [1, 2, 3] * 2
    assert {len(row["tokens"]) for row in frames[:3]} == {3}
    assert frames[2]["texts"] == ["two ", " and ", " is five"] and frames[2]["prompt"] is None
    assert frames[2]["answer"] == rows[0]["text"]
    assert "length_beam" not in frames[0]["settings"]


def test_a_prompt_makes_the_text_its_answer(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    words = ("--infill", "[MASK:2] sieben", "--prompt", PROMPTS[1], "--output", output)
    assert call("generate", trained.directory, *words).code == 0
    (row,) = lines(output)
    assert list(row) == ["prompt", "infill", "text", "spans", "score"]
    assert row["prompt"] == PROMPTS[1] and str(row["text"]).endswith(" sieben")


REFUSED: dict[tuple[str, ...], str] = {
    ("--infill", "a [MASK:0]"): "infill text 1 of 1, character 3: '[MASK:0]' is no mask; write",
    ("--infill", "[MASK]", "--infill", "a [MASK:x] b"): "infill text 2 of 2, character 3",
    ("--infill", "no masks"): "has no mask, so there is nothing to fill in: write [MASK]",
    (
        "--infill",
        "[MASK:64]",
    ): "64 of them masks, which do not fit the model's 64 positions",
    ("--infill", "[MASK]\udcff"): "infill text 1 of 1 is not UTF-8",
    ("--prefix", "\udcff", "--span", "1"): "--prefix is not UTF-8",
    ("--infill", "[MASK]", "--span", "3"): "--infill and --span are two ways to say it",
    ("--infill", "[MASK]", "--input", "f.jsonl"): "--input holds prompts",
    ("--infill", "[MASK]", "--length-beam", "2"): "--length-beam would be ignored: the masks say",
    ("--infill", "[MASK]", "--rerank", "mean"): "--rerank would be ignored",
    ("--infill", "[MASK]", "--prompt", ""): "prompt 1 of 1 is empty",
    ("--infill", "[MASK]", "--prompt", "a", "--prompt", "b"): "2 prompts for 1 texts to fill in",
    ("--prefix", "a"): "need --span N",
    ("--span", "3"): "--span needs a text to stand beside: give --prefix or --suffix",
    ("--prefix", "a", "--span", "0"): "--span must be at least 1 and at most ",
    ("--suffix", "a", "--span", "999999"): "use fewer masks or a shorter text",
}


@pytest.mark.parametrize("words", REFUSED, ids=ascii)
def test_a_text_that_cannot_be_filled_in_is_refused(
    words: tuple[str, ...], call: Caller, trained: TrainedRun
) -> None:
    outcome = call("generate", trained.stage("pretrain"), *words)
    assert outcome.code == 2
    assert REFUSED[words] in outcome.err
    assert outcome.out == ""
