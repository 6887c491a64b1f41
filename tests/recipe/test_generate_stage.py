"""Stage kind generate: what it writes, and that a kill costs neither a row nor a byte."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from generate_tools import ROWS, SOURCES, Calls, Writer, write_model, write_rows
from rank_threads import run_ranks

from dlm.config.loading import load_recipe
from dlm.generation.generate import generate
from dlm.generation.model import open_model
from dlm.generation.settings import GenerationSettings
from dlm.recipe.generate_stage import Writing
from dlm.recipe.kinds import data_identity
from dlm.recipe.plan import plan
from dlm.recipe.status import status

INTERRUPTED = 130


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "twin")


@pytest.fixture
def writer(tmp_path: Path, twin: Path) -> Writer:
    return Writer(tmp_path / "writer", twin)


def test_every_row_is_what_the_model_answers_to_it(writer: Writer, twin: Path) -> None:
    assert writer.run() == 0
    settings = GenerationSettings(beam_size=2, max_new_tokens=4)
    prompts = [str(row["src"]) for row in ROWS]
    answers = generate(open_model(twin), prompts, settings).answers
    expected = [
        {"src": prompt, "tgt": a.text, "inputs": prompt, "targets": a.text}
        for prompt, a in zip(prompts, answers, strict=True) if a.text
    ]  # fmt: skip
    assert [{k: v for k, v in row.items() if k != "score"} for row in writer.rows] == expected
    scores = [a.score for a in answers if a.text]
    assert [row["score"] for row in writer.rows] == pytest.approx(scores, abs=1e-5)
    assert len({row["tgt"] for row in writer.rows}) > 4


def test_the_manifest_names_model_settings_and_rows(writer: Writer, twin: Path) -> None:
    assert writer.run() == 0
    metrics = writer.manifest.metrics
    assert metrics["rows"] + metrics.get("empty_answers", 0) == metrics["prompts"] == len(ROWS)
    assert metrics["rows"] == len(writer.rows)
    assert metrics["sha256"] == hashlib.sha256(writer.file.read_bytes()).hexdigest()
    assert metrics["model"] == {"name": "twin"}
    assert metrics["settings"] == {
        "kind": "autoregressive", "beam_size": 2, "length_penalty": 1.0, "max_new_tokens": 4,
    }  # fmt: skip
    (export,) = writer.manifest.exports
    assert (export.path, export.sha256) == ("export/rows.jsonl", metrics["sha256"])


@pytest.mark.parametrize("last", [1, 9, 14, 22])
def test_a_killed_stage_ends_with_the_bytes_of_one_that_was_not(
    writer: Writer, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    calls = Calls(monkeypatch, chunk=10)
    whole = Writer(tmp_path / "whole", twin)
    calls.until(10**9)
    assert whole.run() == 0
    needed = calls.made
    assert needed > 30, "24 prompts in batches of a few, four steps each"
    calls.until(last)
    assert writer.run() == INTERRUPTED
    growing = writer.directory / "checkpoints" / "rows.jsonl"
    with growing.open("ab") as file:  # the kill came while a chunk was written
        file.write(b'{"src": "half a ro')
    calls.until(10**9)
    assert writer.run() == 0
    assert writer.file.read_bytes() == whole.file.read_bytes()
    # A batch of four steps at most is computed again.
    assert needed - last <= calls.made <= needed - last + 4
    lasting = ("rows", "prompts", "mean_score", "network_calls", "sha256")
    metrics = [{k: w.manifest.metrics[k] for k in lasting} for w in (writer, whole)]
    assert metrics[0] == metrics[1]


def test_a_kill_at_every_chunk_in_turn_still_ends_with_the_same_file(
    writer: Writer, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch, chunk=7)
    whole = Writer(tmp_path / "whole", twin)
    assert whole.run() == 0
    attempts = 0
    while True:
        calls.until(12)
        attempts += 1
        if writer.run() == 0:
            break
    assert attempts > 2
    assert writer.file.read_bytes() == whole.file.read_bytes()


def test_two_ranks_write_what_one_does(
    writer: Writer, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Writer(tmp_path / "whole", twin)
    monkeypatch.setattr("dlm.recipe.generate_stage.CHUNK_PROMPTS", 10)
    assert whole.run() == 0
    recipe = load_recipe(writer.recipe_file)
    (stage,) = plan(recipe, writer.run_dir, data_identity=data_identity)
    model = open_model(twin)  # threads of one process cannot open models at once
    monkeypatch.setattr("dlm.recipe.generate_stage.open_model", lambda *_, **__: model)
    stage.job.directory.mkdir(parents=True)
    made = run_ranks(2, lambda star: Writing(stage.job, star).carry_out())
    assert made[0]["rows"] == made[1]["rows"] == len(whole.rows)
    assert writer.file.read_bytes() == whole.file.read_bytes()


@pytest.mark.slow
def test_one_process_ends_what_two_killed_ranks_began_with_its_own_bytes(
    writer: Writer, twin: Path, tmp_path: Path
) -> None:
    whole = Writer(tmp_path / "whole", twin)
    many = [{"src": f"{one} {other}"} for one in SOURCES for other in SOURCES[:8]]
    for one in (writer, whole):
        write_rows(one.folder / "rows.jsonl", many)
    assert whole.run() == 0
    words = ["run", writer.recipe_file, "--run-dir", writer.run_dir, "hardware.devices=2"]
    command = [sys.executable, "-m", "dlm.cli", *map(str, words)]
    job = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    batches = writer.directory / "checkpoints" / "batches.jsonl"
    while not batches.exists() or batches.read_bytes().count(b"\n") < 4:
        assert job.poll() is None
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert not writer.file.exists(), "the kill should come in the middle"
    assert status(writer.run_dir)[0]["state"] == "partial"
    assert writer.run() == 0
    assert writer.file.read_bytes() == whole.file.read_bytes()
    assert writer.manifest.attempts == 2


def test_a_kill_behind_the_last_row_costs_nothing(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writer.run() == 0
    before = writer.file.read_bytes()
    (writer.directory / "manifest.json").unlink()
    calls = Calls(monkeypatch, chunk=10)
    calls.until(0)
    assert writer.run() == 0
    assert calls.made == 0 and writer.file.read_bytes() == before
    assert writer.manifest.metrics["rows"] == len(writer.rows)


def test_a_damaged_file_is_written_anew(writer: Writer) -> None:
    assert writer.run() == 0
    before = writer.file.read_bytes()
    writer.file.write_bytes(before[:100])
    assert writer.run() == 0
    assert writer.file.read_bytes() == before


def test_status_says_how_far_a_killed_stage_is_and_a_run_resumes_it(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = Calls(monkeypatch, chunk=5)
    calls.until(22)
    assert writer.run() == INTERRUPTED
    (row,) = status(writer.run_dir)
    assert (row["state"], row["step"], row["steps"]) == ("partial", 5, 24)
    calls.until(10**9)
    capsys.readouterr()
    assert writer.run() == 0
    out = capsys.readouterr().out
    assert "resume" in out and "distil: 5 of 24 prompts are there" in out


def test_other_settings_do_not_go_on_with_the_rows_of_the_old_ones(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = Calls(monkeypatch, chunk=10)
    calls.until(22)
    assert writer.run() == INTERRUPTED
    calls.until(10**9)
    assert writer.run("generation.beam_size=1") == 2
    assert "generation.beam_size: 2 -> 1" in capsys.readouterr().err


def test_what_is_said_of_the_time_left_ends_the_stage_in_time(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer.stage["hardware"]["max_time"] = "1s"  # the process is older
    writer.stage["generation"]["batch_tokens"] = 600
    assert writer.run() == 75
    err = capsys.readouterr().err
    assert "has used up hardware.max_time (1 s) and stops after" in err
    attempts = 1
    while writer.run() == 75:
        attempts += 1
        assert attempts < 40, "each attempt must write a batch"
    assert len(writer.rows) == writer.manifest.metrics["rows"]


def test_only_a_prompt_is_needed(writer: Writer, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "text.jsonl", [{"text": row["src"]} for row in ROWS[:5]])
    writer.stage["data"] = {"train": [{"path": str(rows), "fields": {"src": "text"}}]}
    assert writer.run() == 0
    assert {tuple(row) for row in writer.rows} == {("src", "tgt", "inputs", "targets", "score")}


def test_demonstrations_are_asked_with_and_not_handed_on(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noted(model: Any, prompts: list[str], *rest: Any, **more: Any) -> Any:
        asked.extend(prompts)
        return generate(model, prompts, *rest, **more)

    monkeypatch.setattr("dlm.recipe.generate_stage.generate", noted)
    writer.stage["data"] |= {"few_shot": {"count": 1, "joiner": " ", "separator": " "}}
    writer.stage["data"]["train"][0]["limit"] = 4
    assert writer.run() == 0
    assert all("ein roter fuchs " in prompt for prompt in asked)
    assert [row["inputs"] for row in writer.rows] == [row["src"] for row in ROWS[:4]]


def test_a_template_of_several_fields_gives_inputs_and_targets_alone(writer: Writer) -> None:
    writer.stage["data"] |= {"prompt": "{src} on", "response": "so: {tgt}"}
    assert writer.run() == 0
    row = writer.rows[0]
    assert list(row) == ["src", "inputs", "targets", "score"]
    assert row["inputs"] == f"{row['src']} on"


def test_diffusion_writes_with_the_lengths_of_the_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model", "diffusion")
    writer = Writer(tmp_path / "writer", model)
    writer.stage["generation"] = {"length": "oracle", "num_iterations": 2}
    assert writer.run() == 0
    assert len(writer.rows) == len(ROWS)
    assert writer.manifest.metrics["settings"]["sampler"]


def test_a_row_without_a_response_gives_no_oracle_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = Writer(tmp_path / "writer", write_model(tmp_path / "model", "diffusion"))
    rows: list[dict[str, Any]] = [*ROWS[:2], {"src": "fox"}, *ROWS[3:5]]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    writer.stage["data"]["train"] = [{"path": str(path)}]
    writer.stage["generation"] = {"length": "oracle", "num_iterations": 2}
    assert writer.run() == 2
    err = capsys.readouterr().err
    assert "rows.jsonl, line 3: it has no response, whose length generation.length=oracle" in err
    assert writer.run("stages.distil.data.on_bad_row=skip") == 0
    assert [row["src"] for row in writer.rows] == [row["src"] for row in rows if "tgt" in row]
    assert writer.manifest.metrics["skipped_rows"] == 1


def test_a_diffusion_model_without_lengths_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = Writer(tmp_path / "writer", write_model(tmp_path / "model", "diffusion"))
    writer.stage["generation"] = {}
    assert writer.run() == 2
    assert "the model of init_from has no length predictor: name that of a `length`" in (
        capsys.readouterr().err
    )


def test_a_prompt_that_leaves_no_room_is_refused_or_left_out_and_counted(
    writer: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"src": "the red fox ran on the mat " * 9}
    rows = write_rows(tmp_path / "rows.jsonl", [*ROWS[:3], long, *ROWS[3:6]])
    writer.stage["data"]["train"] = [{"path": str(rows)}]
    assert writer.run() == 2
    err = capsys.readouterr().err
    assert "rows.jsonl, line 4: a prompt of" in err and "(data.too_long=drop)" in err
    assert writer.run("stages.distil.data.too_long=drop") == 0
    assert writer.manifest.metrics["dropped_rows"] == 1
    assert long["src"].strip() not in [row["src"] for row in writer.rows]


def test_bad_rows_are_named_before_anything_is_generated(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rows = write_rows(tmp_path / "rows.jsonl", [*ROWS[:3], {"tgt": "x"}, {"src": " "}])
    writer.stage["data"]["train"] = [{"path": str(rows)}]
    calls = Calls(monkeypatch, chunk=2)
    assert writer.run() == 2
    err = capsys.readouterr().err
    assert "2 bad rows" in err and "field 'src' is missing" in err and "the prompt is empty" in err
    assert calls.made == 0


def test_a_stage_whose_answers_are_all_empty_is_refused(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(model: Any, prompts: list[str], *rest: Any, **more: Any) -> Any:
        made = generate(model, prompts, *rest, **more)
        for answer in made.answers:
            object.__setattr__(answer, "text", "")
        return made

    monkeypatch.setattr("dlm.recipe.generate_stage.generate", silent)
    assert writer.run() == 2
    assert "every answer is empty, so there is no row to hand on" in capsys.readouterr().err


def test_moving_the_rows_or_adding_a_validation_set_changes_no_fingerprint(
    writer: Writer, tmp_path: Path
) -> None:
    def key() -> str:
        recipe = load_recipe(writer.recipe_file)
        (stage,) = plan(recipe, writer.run_dir, data_identity=data_identity)
        return stage.identity.fingerprint

    first = key()
    moved = write_rows(tmp_path / "moved.jsonl")
    writer.stage["data"]["train"] = [{"path": str(moved)}]
    assert key() == first
    writer.stage["generation"]["batch_tokens"] = 77
    assert key() == first
    writer.stage["generation"]["beam_size"] = 3
    assert key() != first


def test_json_is_plain_text(writer: Writer, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"src": "ein füchs \u2028 on"}])
    writer.stage["data"]["train"] = [{"path": str(rows)}]
    assert writer.run() == 0
    (line,) = writer.file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert json.loads(line)["src"] == "ein füchs \u2028 on" and "füchs" in line
