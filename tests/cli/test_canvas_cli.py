"""A canvas from the recipe to the answer: training, dlm.json, generate, evaluate, refusals."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Caller, TrainedRun

from dlm.callbacks.metrics_log import logged_at
from dlm.cli import main
from dlm.data.generated import generate as generated_rows
from dlm.generation.generate import generate
from dlm.generation.model import open_model
from dlm.generation.settings import GenerationSettings

RECIPE = """
model: {architecture: modernbert, hidden_size: 64, num_layers: 2, num_heads: 2,
        intermediate_size: 128, max_positions: 64, dropout: 0.0, initializer_range: 0.12}
data: {max_length: 64}
optim: {lr: 4.0e-3, schedule: linear, warmup_steps: %d}
train: {steps: %d, global_batch_size: 32}
validation: {every_n_steps: %d, generate_rows: 20, metric: exact_match, export: last}
hardware: {accelerator: cpu, num_threads: 1}
generation: {num_iterations: 8}
stages:
  tokenizer:
    kind: tokenizer
    data:
      train:
        - {generator: number_pairs, count: 800, fields: {text: src},
           options: &numbers {max_number: 999, date_share: 0.0}}
        - {generator: number_pairs, count: 800, fields: {text: tgt}, options: *numbers}
    tokenizer_training: {algorithm: bpe, vocab_size: 120}
  adapt: &adapt
    kind: adapt
    tokenizer: tokenizer
    objective: {times: independent}
    data: &pairs
      canvas_length: 16
      train: [{generator: number_pairs, count: 800, options: *numbers}]
      validation: [{generator: number_pairs, count: 60, options: *numbers}]
"""
FIRST_END = """
  first_end:
    kind: adapt
    tokenizer: tokenizer
    objective: {times: independent, canvas_padding: first_end_only}
    data: *pairs
"""
CHAIN = """
  length:
    kind: length
    init_from: adapt
    length: {max_response_length: 16, num_heads: 2}
    data:
      train: [{generator: number_pairs, count: 800, options: *numbers}]
      validation: [{generator: number_pairs, count: 60, options: *numbers}]
  scores:
    kind: evaluate
    evaluation:
      limit: 6
      bootstrap_samples: 20
      tasks: [numbers_en_de]
      systems: {itself: {model: adapt}, blocks: {model: adapt, generation: {block_length: 8}},
                predicted: {model: length}}
"""
TASK_OPTIONS = {"max_number": 999, "date_share": 0.0}


def write(folder: Path, steps: int, *parts: str) -> Path:
    recipe = folder / "canvas.yaml"
    recipe.write_text(RECIPE % (min(20, steps), steps, steps) + "".join(parts), encoding="utf-8")
    return recipe


@pytest.fixture(scope="module")
def canvas_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Three steps a stage: nothing is learnt, everything is there."""
    folder = tmp_path_factory.mktemp("canvas")
    recipe = write(folder, 3, CHAIN)
    with redirect_stdout(StringIO()) as said:
        assert main(["run", str(recipe), "--run-dir", str(folder / "run")]) == 0
    (folder / "run" / "said.txt").write_text(said.getvalue(), encoding="utf-8")
    return TrainedRun(folder / "run", recipe)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_objective_that_is_printed_and_kept_names_the_canvas(canvas_run: TrainedRun) -> None:
    description = read(canvas_run.stage("adapt") / "export" / "dlm.json")
    assert description["objective"].endswith("; canvas of 16 tokens, every end token counts")
    assert description["objective"] in (canvas_run.directory / "said.txt").read_text()
    assert description["canvas_length"] == 16
    assert read(canvas_run.stage("length") / "export" / "dlm.json") == description


def test_the_generated_score_of_training_decodes_the_canvas(canvas_run: TrainedRun) -> None:
    """With reference lengths no hypothesis could have another length than its reference."""
    (samples,) = (canvas_run.stage("adapt") / "samples").iterdir()
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    model = open_model(canvas_run.stage("adapt") / "export")
    settings = GenerationSettings(num_iterations=8)
    expected = generate(model, [row["source"] for row in rows], settings)
    assert [row["hypothesis"] for row in rows] == [answer.text for answer in expected.answers]


def test_validations_keep_how_many_answers_are_empty_and_how_long_they_are(
    canvas_run: TrainedRun,
) -> None:
    stage = canvas_run.stage("adapt")
    rows = generated_rows("number_pairs", split="validation", count=60, seed=0, **TASK_OPTIONS)[:20]
    model = open_model(stage / "export")
    settings = GenerationSettings(num_iterations=8)
    answers = generate(model, [row["src"] for row in rows], settings).answers
    ids = model.tokenizer([row["tgt"] for row in rows], add_special_tokens=False)["input_ids"]
    figures = logged_at(stage / "logs" / "metrics.csv", 3)
    empty = sum(not answer.text for answer in answers) / 20
    assert figures["validation/empty_answers"] == pytest.approx(empty)
    ratio = sum(answer.length for answer in answers) / sum(map(len, ids))
    assert figures["validation/length_ratio"] == pytest.approx(ratio, rel=1e-5)
    metrics = read(stage / "manifest.json")["metrics"]
    assert metrics.get("validation_empty_answers", 0) == pytest.approx(empty, abs=1e-4)


def test_a_model_with_a_canvas_answers_without_a_length_predictor(
    call: Caller, canvas_run: TrainedRun, tmp_path: Path
) -> None:
    words = ("generate", canvas_run.stage("adapt"), "--prompt", "seven", "--prompt", "nine")
    plain, asked = call(*words), call(*words, "--length", "canvas", "--canvas-length", "16")
    assert plain.code == 0 and plain.out == asked.out
    trace = tmp_path / "trace.jsonl"
    traced = call(*words, "--canvas-length", "8", "--trace", trace)
    assert traced.code == 0
    rows = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
    assert all(row["spans"] == [8] and len(row["tokens"]) == 8 for row in rows)
    assert rows[0]["settings"]["canvas_length"] == 8


def test_answers_that_fill_the_canvas_are_counted_aloud(
    call: Caller, canvas_run: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlm.generation import model

    monkeypatch.setattr(  # no end can be generated
        model.GenerativeModel, "forbidden_ids_on_canvas", model.GenerativeModel.forbidden_ids
    )
    outcome = call("generate", canvas_run.stage("adapt"), "--prompt", "seven")
    assert "1 of 1 answers fill the canvas of 16 tokens without an end" in outcome.err


@pytest.mark.parametrize(
    ("stage", "words", "said"),
    [
        ("adapt", ("--length", "predicted"), "or use --length canvas"),
        ("adapt", ("--length-beam", "2"), "--length-beam would be ignored: lengths are from --len"),
        ("adapt", ("--rerank", "mean"), "--rerank would be ignored"),
        ("adapt", ("--canvas-length", "0"), "--canvas-length must be at least 1 and at most "),
        ("adapt", ("--min-length", "17"), "min_length = 17: no answer can be so long, the canvas"),
        ("adapt", ("--min-length", "-1"), "--min-length must be at least 0 and at most"),
        ("adapt", ("--end-penalty", "nan"), "--end-penalty must be at least 0, not nan"),
        ("length", ("--end-penalty", "1"), "--end-penalty would be ignored: lengths are from --l"),
        ("adapt", ("--infill", "[MASK]", "--min-length", "2"), "--min-length would be ignored: th"),
        (
            "adapt",
            ("--set", "generation.end_lst=true"),
            "unknown setting; did you mean 'end_last'?",
        ),
        ("adapt", ("--set", "end_last=true"), "given here, as generation.end_last=VALUE"),
        ("adapt", ("--set", "train.steps=3"), "settings of the section generation alone"),
        ("adapt", ("--set", "generation.end_last"), "--set takes generation.KEY=VALUE, such as"),
        ("adapt", ("--set", "generation.end_last=3"), "must be true or false or null"),
        (
            "adapt",
            ("--set", "generation.top_p=2"),
            "generation.top_p=2: top_p must be between 0 and 1",
        ),
        ("adapt", ("--set", "generation.seed=1", "--seed", "1"), "--seed say the same setting: re"),
        ("adapt", ("--set", "generation.beam_size=2"), "--set generation.beam_size would be ignor"),
        ("adapt", ("--set", "generation.rerank=mbr"), "--set generation.rerank would be ignored"),
        ("length", ("--set", "generation.end_last=true"), "--set generation.end_last would be ign"),
        (
            "adapt",
            ("--infill", "[MASK]", "--set", "generation.length_beam=2"),
            "--set generation.length_beam would be ignored: the masks",
        ),
        ("adapt", ("--block-length", "5"), "a canvas of 16 tokens is not a whole number of blocks"),
        (
            "adapt",
            ("--canvas-length", "62"),
            "prompt 1 of 1 has 3 tokens, behind which a canvas of",
        ),
        ("length", ("--canvas-length", "8"), "--canvas-length would be ignored: lengths are from"),
        ("adapt", ("--infill", "[MASK]", "--canvas-length", "8"), "the masks of a text to fill in"),
        (
            "adapt",
            ("--infill", "[MASK]", "--length", "canvas"),
            "--length would be ignored: the ma",
        ),
    ],
)
def test_what_would_be_ignored_or_does_not_fit_is_refused(
    call: Caller, canvas_run: TrainedRun, stage: str, words: tuple[str, ...], said: str
) -> None:
    outcome = call("generate", canvas_run.stage(stage), "--prompt", "six", *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_any_setting_of_a_recipe_can_be_given(call: Caller, canvas_run: TrainedRun) -> None:
    words = ("generate", canvas_run.stage("adapt"), "--prompt", "seven", "--prompt", "nine")
    flag = call(*words, "--canvas-length", "8", "--sampler", "llada")
    names = ("--set", "generation.canvas_length=8", "--set", "generation.sampler=llada")
    assert call(*words, *names).out == flag.out
    last = ("--set", "generation.canvas_length=16", *names)
    assert call(*words, *last).out == flag.out
    assert call(*words, "--set", "generation.steps=3").out == call(*words, "--steps", "3").out
    drawn = ("--sampler", "mdlm", "--set", "generation.top_k=1")
    assert call(*words, *drawn).code == 0


def test_no_answer_is_shorter_than_was_asked(
    call: Caller, canvas_run: TrainedRun, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.jsonl"
    words = ("generate", canvas_run.stage("adapt"), "--prompt", "seven", "--trace", trace)
    assert call(*words, "--min-length", "16", "--end-penalty", "2").code == 0
    first = json.loads(trace.read_text(encoding="utf-8").splitlines()[0])["settings"]
    assert (first["min_length"], first["end_penalty"]) == (16, 2.0)


def test_settings_that_are_given_stand_beside_the_scores(
    call: Caller, canvas_run: TrainedRun, tmp_path: Path
) -> None:
    words = ("--tasks", "numbers_en_de", "--limit", "2", "--output", tmp_path / "scores")
    given = ("--set", "generation.end_last=true", "--min-length", "3")
    assert call("evaluate", canvas_run.stage("adapt"), *words, *given).code == 0
    found = read(tmp_path / "scores" / "numbers_en_de" / "metrics.json")["generation"]
    assert (found["end_last"], found["min_length"]) == (True, 3)


def test_lengths_are_predicted_where_a_predictor_was_trained_and_a_canvas_on_demand(
    call: Caller, canvas_run: TrainedRun
) -> None:
    prompts = ("--prompt", "two hundred and seven")
    predicted = call("generate", canvas_run.stage("length"), *prompts)
    itself = call("generate", canvas_run.stage("length"), *prompts, "--length", "canvas")
    assert predicted.code == itself.code == 0
    assert itself.out == call("generate", canvas_run.stage("adapt"), *prompts).out


def test_a_model_without_a_canvas_is_refused_with_the_remedy(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    for words in (
        ("generate", trained.stage("length"), "--prompt", "seven"),
        (
            "evaluate",
            trained.stage("adapt"),
            "--tasks",
            "numbers_en_de",
            "--output",
            tmp_path / "x",
        ),
    ):
        outcome = call(*words, "--length", "canvas")
        assert outcome.code == 2
        assert "this model was not trained with a canvas" in outcome.err
        assert "train it with data.canvas_length" in outcome.err


def test_scores_stand_beside_the_canvas_that_made_them(
    call: Caller, canvas_run: TrainedRun, tmp_path: Path
) -> None:
    export = canvas_run.stage("scores") / "export"
    of_stage = {
        name: read(export / name / "numbers_en_de" / "metrics.json")
        for name in ("itself", "blocks", "predicted")
    }
    for name in ("itself", "blocks"):
        generation = of_stage[name]["generation"]
        assert (generation["length"], generation["canvas_length"]) == ("canvas", 16)
        assert "length_beam" not in generation
        assert 0 <= of_stage[name]["answers_without_end"] <= 6
    assert of_stage["predicted"]["generation"]["length"] == "predicted"
    assert "answers_without_end" not in of_stage["predicted"]
    assert "8 iterations, canvas of 16" in (export / "table.md").read_text()
    words = ("--tasks", "numbers_en_de", "--limit", "6", "--output", tmp_path / "scores")
    assert call("evaluate", canvas_run.stage("adapt"), *words).code == 0
    again = read(tmp_path / "scores" / "numbers_en_de" / "metrics.json")
    assert again["generation"] == of_stage["itself"]["generation"]
    assert (
        again["scores"]["exact_match"]["score"]
        == of_stage["itself"]["scores"]["exact_match"]["score"]
    )


def test_a_longer_canvas_than_the_model_has_positions_for_is_refused_before_training(
    call: Caller, canvas_run: TrainedRun, tmp_path: Path
) -> None:
    longer = "stages.adapt.generation.canvas_length=60"
    outcome = call("run", canvas_run.recipe, longer, "--run-dir", tmp_path / "run", "--to", "adapt")
    assert outcome.code == 2
    assert "generation.canvas_length=60 does not fit behind a validation prompt of" in outcome.err
    assert not list((tmp_path / "run").glob("*_adapt/checkpoints/step=*"))


def test_a_response_longer_than_the_canvas_is_named_by_file_and_line(
    call: Caller, canvas_run: TrainedRun, tmp_path: Path
) -> None:
    rows = [{"src": "one", "tgt": "eins"}, {"src": "two", "tgt": "zweihundertsieben " * 9}]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = f"stages.adapt.data.train=[{{path: {file}}}]"
    words = ("run", canvas_run.recipe, source, "--run-dir", tmp_path / "run", "--to", "adapt")
    outcome = call(*words)
    assert outcome.code == 2
    assert f"{file}, line 2: a response of" in outcome.err
    assert "where the canvas has 16" in outcome.err
    dropped = call(*words, "stages.adapt.data.too_long=drop")
    assert dropped.code == 0, dropped.err
    manifest = read(next((tmp_path / "run").glob("*_adapt")) / "manifest.json")
    assert manifest["metrics"]["dropped_rows"] == 1


@pytest.mark.slow
def test_a_small_model_learns_where_its_answers_end(call: Caller, tmp_path: Path) -> None:
    recipe = write(tmp_path, 500, FIRST_END)
    assert call("run", recipe, "--run-dir", tmp_path / "run").code == 0
    rows = generated_rows("number_pairs", split="validation", count=60, seed=0, **TASK_OPTIONS)
    prompts, references = [row["src"] for row in rows], [row["tgt"] for row in rows]
    for stage in ("02_adapt", "03_first_end"):
        model = open_model(tmp_path / "run" / stage / "export")
        ids = model.tokenizer(references, add_special_tokens=False)["input_ids"]
        result = generate(model, prompts, GenerationSettings(num_iterations=8))
        pairs = list(zip(result.answers, references, strict=True))
        off = [abs(a.length - len(row)) for a, row in zip(result.answers, ids, strict=True)]
        assert result.without_end <= 3
        assert len({answer.length for answer in result.answers}) >= 5
        assert sum(off) / len(off) < 1.0, "tokens too many or too few, on average"
        assert sum(answer.text == reference for answer, reference in pairs) >= 10
