"""Rows that cannot be learned from: one message with file, line and remedy; exit code 2."""

import json
from pathlib import Path

import pytest
from cli_tools import Caller, Outcome, TrainedRun, files_of

GOOD = b'{"src": "one", "tgt": "eins"}\n'
THIRD_LINE: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"src": "two", "tgt": "zw\n', "not JSON"),
    "JSON cut short": (b'{"src": "two"', "not JSON (Expecting ',' delimiter at column 14)"),
    "no object": (b'["two", "zwei"]\n', "a list, not an object"),
    "not UTF-8": (b'{"src": "two", "tgt": "zw\xf6lf"}\n', "not UTF-8 (byte 26 of the line"),
    "half a surrogate pair": (b'{"src": "two", "tgt": "\\ud800"}\n', "not JSON that can be read"),
    "a field missing": (b'{"sorce": "two", "tgt": "zwei"}\n', "field 'src' is missing"),
    "a null field": (b'{"src": "two", "tgt": null}\n', "field 'tgt' is null, not text"),
    "a number": (b'{"src": 2, "tgt": "zwei"}\n', "field 'src' is a number, not text"),
    "a list of texts": (b'{"src": ["two"], "tgt": "zwei"}\n', "field 'src' is a list, not text"),
    "an empty target": (b'{"src": "two", "tgt": " "}\n', "the text to learn is empty"),
    "an empty prompt": (b'{"src": "", "tgt": "zwei"}\n', "the prompt is empty"),
    "a row that is too long": (
        json.dumps({"src": "two " * 100, "tgt": "zwei"}).encode() + b"\n",
        "where at most 64 fit",
    ),
}
REMEDIES = ("correct", "convert", "give it some text", "Shorten or remove", "set `fields`")


def adapt(call: Caller, run: TrainedRun, source: str, *more: str) -> Outcome:
    return call(
        "run", run.recipe, "--run-dir", run.directory, "--to", "adapt",
        f"stages.adapt.data.train=[{source}]", *more,
    )  # fmt: skip


@pytest.mark.parametrize("name", THIRD_LINE)
def test_a_bad_row_is_named_by_file_and_line_and_nothing_finished_is_touched(
    name: str, call: Caller, begun: TrainedRun, tmp_path: Path
) -> None:
    bad, words = THIRD_LINE[name]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(GOOD + b"\n" + bad)  # a blank line is no row, and counts as a line
    finished = {stage: files_of(begun.stage(stage)) for stage in ("tokenizer", "pretrain")}

    outcome = adapt(call, begun, f"{{path: {path}}}")

    assert outcome.code == 2
    assert f"{path}, line 3: " in outcome.err
    assert words in outcome.err
    assert any(remedy in outcome.err for remedy in REMEDIES)
    assert "Traceback" not in outcome.err
    assert outcome.last_line.startswith("what is done is kept")
    assert {stage: files_of(begun.stage(stage)) for stage in finished} == finished


def test_the_corrected_file_continues_the_run(
    call: Caller, begun: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(GOOD + b'{"src": "two"}\n')
    assert adapt(call, begun, f"{{path: {path}}}").code == 2
    path.write_bytes(GOOD + b'{"src": "two", "tgt": "zwei"}\n')
    outcome = adapt(call, begun, f"{{path: {path}}}")
    assert outcome.code == 0
    assert "pretrain: skipped, finished" in outcome.out
    assert (begun.stage("adapt") / "manifest.json").is_file()


def test_every_bad_row_of_a_set_is_named_at_once(
    call: Caller, begun: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    kinds = [
        name for name in THIRD_LINE if name not in ("JSON cut short", "a row that is too long")
    ]
    path.write_bytes(GOOD + b"".join(THIRD_LINE[name][0] for name in kinds))
    outcome = adapt(call, begun, f"{{path: {path}}}")
    assert outcome.code == 2
    assert f"{len(kinds)} bad rows:" in outcome.err
    for line, name in enumerate(kinds, start=2):
        assert f"{path}, line {line}: " in outcome.err and THIRD_LINE[name][1] in outcome.err
    assert "data.on_bad_row=skip counts and lists them" in outcome.err


def test_bad_rows_are_skipped_counted_and_listed_where_that_is_asked_for(
    call: Caller, begun: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(GOOD * 3 + b'{"src": "two"}\nx\n')
    skip = "stages.adapt.data.on_bad_row=skip"
    outcome = adapt(call, begun, f"{{path: {path}}}", skip)
    assert outcome.code == 0
    stage = begun.stage("adapt")
    listing = stage / "logs" / "bad_rows.jsonl"
    assert outcome.out.count(f"adapt: 2 bad rows skipped, listed in {listing}; the first: ") == 1
    metrics = json.loads((stage / "manifest.json").read_text())["metrics"]
    assert (metrics["train_rows"], metrics["skipped_rows"]) == (3, 2)
    places = [json.loads(line)["place"] for line in listing.read_text().splitlines()]
    assert places == [f"{path}, line 4", f"{path}, line 5"]


def test_the_tokenizer_skips_and_lists_them_too(
    call: Caller, recipe_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "text.jsonl"
    path.write_bytes(b'{"text": "one two three four"}\n' * 50 + b"x\n")
    rows = [f"stages.tokenizer.data.train=[{{path: {path}}}]", "--only", "tokenizer"]
    refused = call("run", recipe_file, "--run-dir", tmp_path / "run", *rows)
    assert refused.code == 2 and f"1 bad row:\n  {path}, line 51: not JSON" in refused.err
    skip = ["data.on_bad_row=skip", "tokenizer_training.vocab_size=300"]
    outcome = call("run", recipe_file, "--run-dir", tmp_path / "run", *rows, *skip)
    assert outcome.code == 0
    assert "tokenizer: 1 bad row skipped, listed in" in outcome.out
    stage = tmp_path / "run" / "01_tokenizer"
    assert json.loads((stage / "manifest.json").read_text())["metrics"]["skipped_rows"] == 1
    assert (stage / "logs" / "bad_rows.jsonl").is_file()


def test_a_set_without_a_validation_split_is_split_by_content(
    call: Caller, begun: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"src": f"{n} one", "tgt": f"{n} eins"} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows * 2))
    source = f"{{path: {path}, holdout: {{share: 0.3}}}}"
    outcome = adapt(call, begun, source, f"stages.adapt.data.validation=[{source}]")
    assert outcome.code == 0
    metrics = json.loads((begun.stage("adapt") / "manifest.json").read_text())["metrics"]
    assert 60 < metrics["train_rows"] < 110 and metrics["train_rows"] % 2 == 0


def test_too_long_rows_are_dropped_and_counted_where_that_is_asked_for(
    call: Caller, begun: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(GOOD * 3 + THIRD_LINE["a row that is too long"][0] * 2)
    outcome = adapt(call, begun, f"{{path: {path}}}", "stages.adapt.data.too_long=drop")
    assert outcome.code == 0
    metrics = json.loads((begun.stage("adapt") / "manifest.json").read_text())["metrics"]
    assert (metrics["train_rows"], metrics["dropped_rows"]) == (3, 2)


def test_a_file_of_rows_that_are_all_too_long_is_refused_even_then(
    call: Caller, begun: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(THIRD_LINE["a row that is too long"][0])
    outcome = adapt(call, begun, f"{{path: {path}}}", "stages.adapt.data.too_long=drop")
    assert outcome.code == 2
    assert "every row is longer than 64 tokens: shorten the rows" in outcome.err


@pytest.mark.parametrize("content", [b"", b"\n \n\n"])
def test_an_empty_file_is_refused(
    content: bytes, call: Caller, begun: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    outcome = adapt(call, begun, f"{{path: {path}}}")
    assert outcome.code == 2
    assert f"{path} has no rows: give a source with at least one" in outcome.err


SOURCES = {
    "{path: nowhere/*.csv}": "no file matches nowhere/*.csv; set data.root=DIR",
    "{path: nowhere.jsonl}": "no such file: nowhere.jsonl; set data.root=DIR",
    "{generator: number_pair, count: 5}": "unknown generator 'number_pair'; valid: number_text",
    "{generator: number_pairs, count: 5, options: {sorce: en}}": "unknown option of number_pairs",
    "{generator: number_pairs, count: 5, options: {seed: x}}": "seed must be a whole number",
    "{generator: number_pairs, count: 5, split: dev}": "unknown split 'dev'; valid: train",
    "{generator: number_pairs, count: 500000}": "count is 500000",
    "{hub: bentrevett/multi30k, fields: {src: de, tgt: en}}": "data set bentrevett/multi30k (train)"
    " cannot be loaded",
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_gives_no_rows_is_named_with_the_remedy(
    source: str, call: Caller, begun: TrainedRun
) -> None:
    outcome = adapt(call, begun, source)
    assert outcome.code == 2
    assert SOURCES[source] in outcome.err
    assert "continue with" not in outcome.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("part.rows", "files are .txt, .jsonl, .json, .csv, .tsv"),
        ("part.xlsx", "an Excel workbook: save the sheet as CSV"),
    ],
)
def test_files_of_no_kind_that_is_read_are_named_before_any_stage_begins(
    name: str, words: str, call: Caller, recipe_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / name).touch()
    for source in ("rows", f"rows/{name}", f"rows/*{Path(name).suffix}"):
        outcome = call(
            "run", recipe_file, "--run-dir", tmp_path / "run", f"data.root={tmp_path}",
            f"stages.adapt.data.train=[{{path: {source}}}]",
        )  # fmt: skip
        assert outcome.code == 2
        assert f"stages.adapt.data.train[0]: {tmp_path / 'rows'}" in outcome.err
        assert words in outcome.err
        assert not (tmp_path / "run").exists()


def test_an_unreachable_hub_says_how_to_go_on_without_a_network(
    call: Caller, begun: TrainedRun
) -> None:
    outcome = adapt(call, begun, "{hub: bentrevett/multi30k, hub_fields: {src: de, tgt: en}}")
    assert outcome.code == 2
    assert "Without a network set data.root=DIR to a folder with local files" in outcome.err


@pytest.mark.parametrize("template", ["{src", "{}", "{src:d}", "{src!r}"])
def test_a_template_that_is_none_is_refused_before_any_stage_begins(
    template: str, call: Caller, recipe_file: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    override = f'stages.adapt.data.prompt="{template}"'
    outcome = call("run", recipe_file, "--run-dir", run_dir, override)
    assert outcome.code == 2
    assert f"stages.adapt.data.prompt: template {template!r}" in outcome.err
    assert "Write fields as {name}" in outcome.err
    assert not run_dir.exists()


def test_a_template_with_a_field_that_no_row_has_is_named(
    call: Caller, begun: TrainedRun, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(GOOD)
    outcome = adapt(call, begun, f"{{path: {path}}}", 'stages.adapt.data.prompt="{scr}"')
    assert outcome.code == 2
    assert f"{path}, line 1: field 'scr' is missing" in outcome.err
    assert "(the row has src, tgt; did you mean 'src'?)" in outcome.err


@pytest.mark.parametrize("algorithm", ["bpe", "unigram", "byte_bpe"])
def test_a_vocabulary_without_room_for_the_characters_is_refused(
    algorithm: str, call: Caller, recipe_file: Path, tmp_path: Path
) -> None:
    outcome = call(
        "run", recipe_file, "--run-dir", tmp_path / "run", "--only", "tokenizer",
        f"tokenizer_training.algorithm={algorithm}", "tokenizer_training.vocab_size=8",
    )  # fmt: skip
    assert outcome.code == 2
    assert "vocab_size=8 cannot hold every character of the text" in outcome.err
