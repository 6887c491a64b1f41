"""dlm evaluate and the evaluate stage: what they write, and what they refuse."""

import json
import os
import shutil
from pathlib import Path

import pytest
import sacrebleu
from cli_tools import Caller, TrainedRun, files_of, read_scores

from dlm.generation.generated import Generated

CAPTIONS = [
    ("a dog runs on the beach", "ein hund rennt am strand"),
    ("two men are talking", "zwei männer unterhalten sich"),
    ("a girl reads a book in the park", "ein mädchen liest ein buch im park"),
]
TASK = """
version: 3
description: copies, so that a score is not 0
source: {{path: {path}}}
metrics: [bleu, chrf, exact_match]
"""


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    rows = "".join(json.dumps({"src": a, "tgt": b}) + "\n" for a, b in CAPTIONS)
    (tmp_path / "captions.jsonl").write_text(rows, encoding="utf-8")
    path = tmp_path / "captions.yaml"
    path.write_text(TASK.format(path=tmp_path / "captions.jsonl"), encoding="utf-8")
    return path


def test_a_score_is_written_with_everything_that_made_it(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    outcome = call(
        "evaluate", trained.directory, "--tasks", "numbers_en_de", "--limit", "7",
        "--output", tmp_path / "scores", "--steps", "4",
    )  # fmt: skip
    assert outcome.code == 0
    metrics, samples = read_scores(tmp_path / "scores" / "numbers_en_de")
    assert metrics["rows"] == len(samples) == 7
    assert (metrics["task"], metrics["task_version"], metrics["system"]) == (
        "numbers_en_de", 1, "length",
    )  # fmt: skip
    assert metrics["generation"] == {
        "kind": "diffusion",
        "sampler": "reparam-uncond-deterministic-cosine",
        "num_iterations": 4,
        "length": "predicted",
        "length_beam": 2,
        "rerank": "mean",
    }
    # One batch for the lengths and one for the canvases, four iterations each.
    assert metrics["network_calls"] == 1 + 4
    assert metrics["scores"]["bleu"]["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert set(samples[0]) >= {"source", "reference", "hypothesis"}
    assert (tmp_path / "scores" / "table.md").is_file()


def test_the_scores_are_sacrebleus_own_of_the_samples_file(
    call: Caller, trained: TrainedRun, tmp_path: Path, task_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The decoder's texts are replaced, as those of an untrained model score 0."""
    from dlm.generation import diffusion

    texts = iter(["ein hund rennt am strand", "zwei frauen unterhalten sich", "ein mädchen liest"])
    monkeypatch.setattr(
        diffusion, "Generated", lambda text, n, score: Generated(next(texts), n, score)
    )
    output = tmp_path / "scores"
    words = ("--tasks", task_file, "--length", "predicted", "--output", output)
    assert call("evaluate", trained.directory, *words).code == 0
    metrics, samples = read_scores(output / "captions")
    hypotheses = [sample["hypothesis"] for sample in samples]
    references = [sample["reference"] for sample in samples]
    assert references == [reference for _, reference in CAPTIONS]
    assert [sample["source"] for sample in samples] == [source for source, _ in CAPTIONS]
    bleu = sacrebleu.corpus_bleu(hypotheses, [references]).score
    chrf = sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert bleu > 10
    assert metrics["scores"]["bleu"]["score"] == bleu
    assert metrics["scores"]["chrf"]["score"] == chrf
    assert metrics["scores"]["exact_match"]["score"] == pytest.approx(100 / 3)
    low, high = (metrics["scores"]["bleu"][f"ci95_{end}"] for end in ("low", "high"))
    assert low <= bleu <= high


def test_the_same_command_gives_the_same_answers(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    outputs = [tmp_path / "first", tmp_path / "second"]
    for output in outputs:
        words = ("--tasks", "numbers_en_de", "--limit", "5", "--output", output)
        assert call("evaluate", trained.directory, *words).code == 0
    first, second = ((output / "numbers_en_de" / "samples.jsonl") for output in outputs)
    assert first.read_bytes() == second.read_bytes()


def test_lengths_of_the_references_serve_a_model_without_a_predictor(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    words = ("--tasks", "numbers_en_de", "--limit", "3", "--output", tmp_path / "scores")
    refused = call("evaluate", trained.stage("adapt"), *words)
    assert refused.code == 2
    assert "has no length predictor" in refused.err and "--length oracle" in refused.err
    assert not (tmp_path / "scores").exists()
    assert call("evaluate", trained.stage("adapt"), *words, "--length", "oracle").code == 0
    metrics, _ = read_scores(tmp_path / "scores" / "numbers_en_de")
    assert metrics["generation"]["length"] == "oracle"
    assert "length_beam" not in metrics["generation"]


def test_demonstrations_stand_before_the_prompts_and_their_number_with_the_score(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    words = ("--tasks", "numbers_en_de", "--limit", "3", "--output", tmp_path / "scores")
    assert call("evaluate", trained.directory, *words, "--few-shot", "1").code == 0
    metrics, samples = read_scores(tmp_path / "scores" / "numbers_en_de")
    assert metrics["few_shot"] == 1
    for sample in samples:
        shown, asked = sample["source"].split("\n\n")
        assert len(shown.split("\n")) == 2 and asked != shown.split("\n")[0]


REFUSED: dict[tuple[str, ...], str] = {
    ("--tasks", "numbers_en_d"): "no task 'numbers_en_d'; did you mean 'numbers_en_de'?",
    ("--tasks", "nothere.yaml"): "no task 'nothere.yaml'; there is no such file",
    ("--tasks", ","): "--tasks names no task: `dlm ls tasks` lists them",
    ("--tasks", "numbers_en_de,numbers_en_de"): "share the name numbers_en_de",
    ("--tasks", "numbers_en_de", "--limit", "0"): "--limit must be at least 1 and at most ",
    ("--tasks", "numbers_en_de", "--few-shot", "-1"): "--few-shot must be at least 0 and at most ",
    ("--tasks", "numbers_en_de", "--length-beam", "0"): "--length-beam must be at least 1",
    ("--tasks", "numbers_en_de", "--sampler", "cosine"): "unknown sampler 'cosine'",
    (
        "--tasks",
        "multi30k_de_en",
        "--data-root",
        "/nowhere",
    ): "cannot read /nowhere/de-en/test_2016",
    ("--tasks", "multi30k_de_en"): "Without a network set data.root=DIR",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_a_wrong_evaluation_is_refused_and_writes_nothing(
    words: tuple[str, ...], call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    output = tmp_path / "scores"
    outcome = call("evaluate", trained.directory, *words, "--output", output)
    assert outcome.code == 2
    assert REFUSED[words] in outcome.err
    assert not output.exists()


def test_a_row_that_leaves_no_room_for_an_answer_is_named_or_skipped_and_counted(
    call: Caller, trained: TrainedRun, tmp_path: Path, task_file: Path
) -> None:
    with (tmp_path / "captions.jsonl").open("a") as file:
        file.write(json.dumps({"src": "one " * 80, "tgt": "eins"}) + "\n")
    output = tmp_path / "scores"
    outcome = call("evaluate", trained.directory, "--tasks", task_file, "--output", output)
    assert outcome.code == 2
    assert "task captions: row 4: a prompt of" in outcome.err
    assert "shorten or remove such rows, or leave them out" in outcome.err
    words = ("--tasks", task_file, "--output", output, "--skip-too-long")
    assert call("evaluate", trained.directory, *words).code == 0
    metrics, samples = read_scores(output / "captions")
    assert (metrics["rows"], metrics["skipped_rows"], len(samples)) == (3, 1, 3)


def test_an_output_that_holds_anything_is_left_alone(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for output, text in (
        (tmp_path, "is not empty: give --output a new directory"),
        (tmp_path / "notes.txt", "is a file: give --output a new directory"),
    ):
        words = ("--tasks", "numbers_en_de", "--output", output)
        outcome = call("evaluate", trained.directory, *words)
        assert outcome.code == 2
        assert text in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interrupted_evaluate_stage_keeps_the_systems_that_are_done(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.directory, run)
    stage = run / trained.stage("evaluate").name
    uninterrupted = json.loads((stage / "export" / "comparisons.json").read_text())
    (stage / "export").rename(stage / ".partial-export")
    (stage / "manifest.json").unlink()
    for name in ("comparisons.json", "table.md"):
        (stage / ".partial-export" / name).unlink()
    (stage / ".partial-export" / "oracle" / "numbers_en_de" / "metrics.json").unlink()
    done = stage / ".partial-export" / "predicted"
    kept, others = files_of(done), {p: files_of(p) for p in run.glob("0[1-4]_*")}

    outcome = call("run", trained.recipe, "--run-dir", run)

    assert outcome.code == 0
    assert files_of(stage / "export" / "predicted") == kept
    assert (stage / "export" / "oracle" / "numbers_en_de" / "metrics.json").is_file()
    assert json.loads((stage / "export" / "comparisons.json").read_text()) == uninterrupted
    assert {p: files_of(p) for p in others} == others


def test_an_evaluate_stage_whose_results_could_not_be_shown_keeps_them_all(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.directory, run)
    stage = run / trained.stage("evaluate").name
    (stage / "manifest.json").unlink()
    systems = [stage / "export" / name for name in ("predicted", "oracle")]
    kept = [files_of(place) for place in systems]
    assert call("run", trained.recipe, "--run-dir", run).code == 0
    assert [files_of(place) for place in systems] == kept


def test_the_evaluate_stage_and_the_verb_agree(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    words = ("--tasks", "numbers_en_de", "--limit", "20", "--output", tmp_path / "scores")
    assert call("evaluate", trained.directory, *words).code == 0
    _, samples = read_scores(tmp_path / "scores" / "numbers_en_de")
    export = trained.stage("evaluate") / "export"
    metrics, of_stage = read_scores(export / "predicted" / "numbers_en_de")
    assert metrics["rows"] == 20
    assert samples == of_stage


@pytest.mark.real_data
def test_a_plain_hugging_face_directory_is_evaluated_with_oracle_lengths(
    call: Caller, tmp_path: Path
) -> None:
    if "DLM_REAL_MODELS" not in os.environ:
        pytest.skip("DLM_REAL_MODELS does not name a folder of models")
    model = Path(os.environ["DLM_REAL_MODELS"]) / "bert-tiny-mlm"
    words = ("--tasks", "numbers_en_de", "--limit", "4", "--output", tmp_path / "scores")
    refused = call("evaluate", model, *words)
    assert refused.code == 2 and "--length oracle" in refused.err
    outcome = call("evaluate", model, *words, "--length", "oracle", "--steps", "2")
    assert outcome.code == 0
    metrics, samples = read_scores(tmp_path / "scores" / "numbers_en_de")
    assert (metrics["system"], metrics["network_calls"]) == ("bert-tiny-mlm", 2)
    assert len(samples) == 4
    refused = call("generate", model, "--prompt", "seven")
    assert refused.code == 2 and "train one with a `length` stage" in refused.err
