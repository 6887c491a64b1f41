"""dlm evaluate: what its rows hold, both kinds of length, and going on after a kill."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import sacrebleu
from cli_tools import RECIPE, Caller, TrainedRun, files_of, read_scores
from rouge_score.rouge_scorer import RougeScorer

from dlm.data.prompts import Template
from dlm.errors import UserError
from dlm.evaluation.learned_scores import LEARNED, LearnedScore
from dlm.evaluation.metrics import METRICS
from dlm.evaluation.sari import sari_counts, sari_of
from dlm.evaluation.scores import Texts
from dlm.generation import diffusion
from dlm.generation.generated import Generated


def task(folder: Path, metrics: list[str], rows: list[dict[str, Any]], **keys: Any) -> Path:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    source = {"path": str(folder / "rows.jsonl")}
    content = {"version": 1, "source": source, "metrics": metrics, **keys}
    (folder / "mine.yaml").write_text(json.dumps(content), encoding="utf-8")
    return folder / "mine.yaml"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model says, row by row: that of an untrained one scores 0."""
    given: list[str] = []
    texts: Iterator[str] = (given[index] for index in range(1000))
    monkeypatch.setattr(
        diffusion, "Generated", lambda text, n, score: Generated(next(texts), n, score)
    )
    return given


def scored(call: Caller, trained: TrainedRun, path: Path, output: Path, *words: str) -> Any:
    outcome = call("evaluate", trained.directory, "--tasks", path, "--output", output, *words)
    assert outcome.code == 0, outcome.err
    return read_scores(output / "mine")


def test_the_scores_of_several_references_are_the_libraries_own_of_the_samples_file(
    call: Caller, trained: TrainedRun, tmp_path: Path, answers: list[str]
) -> None:
    rows: list[dict[str, Any]] = [
        {"document": "one", "summary": ["a dog runs on the beach", "the dog is running there"]},
        {"document": "two", "summary": ["two men are talking to a woman", "people talk"]},
        {"document": "three", "summary": "a girl reads a book in the park"},
    ]
    answers += ["the dog runs on a beach", "two men talk to a woman", "a girl reads books"]
    names = ["bleu", "chrf", "ter", "rouge_1", "rouge_2", "rouge_l"]
    path = task(tmp_path, names, rows, task="summarization")
    metrics, samples = scored(call, trained, path, tmp_path / "o", "--length", "predicted")
    references = [sample.get("references", [sample["reference"]]) for sample in samples]
    assert references == [*[row["summary"] for row in rows[:2]], [rows[2]["summary"]]]
    assert [sample["reference"] for sample in samples] == [each[0] for each in references]
    hypotheses = [sample["hypothesis"] for sample in samples]
    streams = [[each[0] for each in references], [(*each, None)[1] for each in references]]
    scores = {name: value["score"] for name, value in metrics["scores"].items()}
    assert scores["bleu"] == sacrebleu.corpus_bleu(hypotheses, streams).score > 10
    assert scores["chrf"] == sacrebleu.corpus_chrf(hypotheses, streams).score
    assert scores["ter"] == sacrebleu.corpus_ter(hypotheses, streams).score
    for name, kind in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        scorer = RougeScorer([kind])
        best = [scorer.score_multi(*row)[kind].fmeasure
                for row in zip(references, hypotheses, strict=True)]  # fmt: skip
        assert scores[name] == pytest.approx(100 * sum(best) / 3, abs=1e-12)
    assert metrics["scores"]["bleu"]["signature"].startswith("nrefs:var|")
    assert metrics["scores"]["rouge_l"]["signature"].endswith("|best of the references")


def test_sari_reads_the_sentence_without_the_demonstrations(
    call: Caller, trained: TrainedRun, tmp_path: Path, answers: list[str]
) -> None:
    rows = [{"src": "a b c d", "tgt": "a b"}, {"src": "e", "tgt": "f"}]
    answers += ["a b d", "f"] * 2
    path = task(tmp_path, ["sari"], rows)
    plain, _ = scored(call, trained, path, tmp_path / "o", "--length", "predicted")
    words = ("--length", "predicted", "--few-shot", "1")
    shown, samples = scored(call, trained, path, tmp_path / "shown", *words)
    assert samples[0]["source"].endswith(rows[0]["src"]) != samples[0]["source"]
    assert samples[0]["input"] == rows[0]["src"]
    assert shown["scores"]["sari"]["score"] == plain["scores"]["sari"]["score"]
    counts = sari_counts("a b c d", "a b d", ["a b"]) + sari_counts("e", "f", ["f"])
    assert plain["scores"]["sari"]["score"] == pytest.approx(sari_of(counts))
    copied = sari_counts("a b c d", "a b c d", ["a b"]) + sari_counts("e", "e", ["f"])
    assert plain["scores"]["sari"]["source_unchanged"] == pytest.approx(sari_of(copied))


def test_answers_that_cannot_be_extracted_are_wrong_and_counted(
    call: Caller, trained: TrainedRun, tmp_path: Path, answers: list[str]
) -> None:
    rows = [{"question": f"{n} + 1", "answer": n + 1} for n in range(4)]
    answers += ["#### 1", "It is 7.", "no idea", "four"]
    path = task(tmp_path, ["number_match"], rows, task="math")
    metrics, samples = scored(call, trained, path, tmp_path / "o", "--length", "predicted")
    assert [sample["extracted"] for sample in samples] == ["1", "7", None, None]
    assert (metrics["scores"]["number_match"]["score"], metrics["answers_not_extracted"]) == (25, 2)
    table = (tmp_path / "o" / "table.md").read_text()
    assert "number_match 25.0" in table and "no answer found in 2 of 4 (wrong)" in table


def test_numbers_are_read_in_the_language_of_the_task(
    call: Caller, trained: TrainedRun, tmp_path: Path, answers: list[str]
) -> None:
    rows = [{"question": str(n), "answer": "1,000"} for n in range(3)]
    answers += ["Die Antwort ist 1.000.", "1.000", "1,000"]
    said = {"task": "math", "language": "de", "reference_language": "en"}
    path = task(tmp_path, ["number_match"], rows, **said)
    metrics, samples = scored(call, trained, path, tmp_path / "o", "--length", "predicted")
    assert [sample["extracted"] for sample in samples] == ["1000", "1000", "1"]
    assert {(s["language"], s["reference_language"]) for s in samples} == {("de", "en")}
    found = metrics["scores"]["number_match"]
    assert found["score"] == pytest.approx(200 / 3)
    assert found["signature"].endswith("|language:de")
    assert METRICS["generation"]["number_match"].statistics(samples)[:, 0].tolist() == [1, 1, 0]


def test_a_reference_without_the_number_is_refused_by_row(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    rows = [{"question": "a", "answer": "5"}, {"question": "b", "answer": "8:30"}]
    path = task(tmp_path, ["number_match"], rows, task="math")
    refused = call("evaluate", trained.directory, "--tasks", path, "--output", tmp_path / "o",
                   "--data-root", tmp_path)  # fmt: skip
    assert refused.code == 2
    assert "row 2: number_match finds no sure number in the reference '8:30'" in refused.err


def test_the_row_with_the_references_lengths_stands_beside(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    words = ("--tasks", "numbers_en_de", "--limit", "4")
    both, alone = tmp_path / "both", tmp_path / "alone"
    assert call("evaluate", trained.directory, *words, "--output", both).code == 0
    words_alone = (*words, "--length", "oracle")
    assert call("evaluate", trained.directory, *words_alone, "--output", alone).code == 0
    predicted, _ = read_scores(both / "numbers_en_de")
    oracle, samples = read_scores(both / "numbers_en_de" / "oracle_length")
    assert [each["generation"]["length"] for each in (predicted, oracle)] == ["predicted", "oracle"]
    assert (predicted["system"], oracle["system"]) == ("length", "length, oracle length")
    assert samples == read_scores(alone / "numbers_en_de")[1]
    assert "| length, oracle length |" in (both / "table.md").read_text()
    assert not (alone / "numbers_en_de" / "oracle_length").exists()


ONE_SYSTEM = RECIPE.split("        oracle:")[0] + "      compare: []\n"


@pytest.mark.parametrize("wanted", [True, False])
def test_an_evaluate_stage_adds_the_oracle_row_that_its_systems_lack(
    wanted: bool, call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    run, recipe = tmp_path / "run", tmp_path / "tiny.yaml"
    shutil.copytree(trained.directory, run)
    recipe.write_text(ONE_SYSTEM, encoding="utf-8")
    change = f"stages.evaluate.evaluation.oracle_lengths={str(wanted).lower()}"
    outcome = call("run", recipe, "--run-dir", run, "--force", "evaluate", change)
    assert outcome.code == 0, outcome.err
    export = next(run.glob("*_evaluate")) / "export"
    added = export / "predicted, oracle length" / "numbers_en_de"
    assert added.is_dir() == wanted
    if wanted:
        there = trained.stage("evaluate") / "export" / "oracle" / "numbers_en_de"
        assert read_scores(added)[1] == read_scores(there)[1]
    named = trained.stage("evaluate") / "export"
    folders = sorted(path.name for path in named.iterdir() if path.is_dir())
    assert folders == ["oracle", "predicted"], "the recipe has its own oracle row"


def test_a_killed_evaluation_goes_on_with_the_same_command_alone(
    call: Caller, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--tasks", "numbers_en_de,instruct_digits", "--limit", "4", "--output")
    whole, output = tmp_path / "whole", tmp_path / "killed"
    assert call("evaluate", trained.directory, *words, whole).code == 0

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dlm.evaluation.evaluate.write_result", killed)
        assert call("evaluate", trained.directory, *words, output).code == 130
    other = call("evaluate", trained.directory, "--tasks", "numbers_en_de", "--output", output)
    assert other.code == 2 and "holds an evaluation that another command began" in other.err
    outcome = call("evaluate", trained.directory, *words, output)
    assert outcome.code == 0 and "begun before by the same command; it goes on" in outcome.out
    assert "batches are there from before" in outcome.out
    ended = [
        {name: content for name, (_, content) in files_of(place).items() if "samples" in name}
        for place in (whole, output)
    ]
    assert ended[0] == ended[1] and len(ended[0]) == 4
    assert not list(output.rglob(".*"))


def test_questions_too_long_for_the_model_are_skipped_and_counted_or_none_is_left(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    rows = [{"inputs": "one " * count, "targets": "B"} for count in (1, 80)]
    keys = {"kind": "multiple_choice", "prompt": "{inputs}", "choices": ["A", "B"],
            "answer": "targets", "likelihood": {"estimator": "chain_rule"}}  # fmt: skip
    path = task(tmp_path, ["accuracy"], rows, **keys)
    metrics, samples = scored(call, trained, path, tmp_path / "o", "--skip-too-long")
    assert (metrics["rows"], metrics["skipped_rows"], len(samples)) == (1, 1, 1)
    assert "1 more rows skipped as too long" in (tmp_path / "o" / "table.md").read_text()
    for metric, extra in (("accuracy", keys), ("exact_match", {"task": "instruction"})):
        path = task(tmp_path, [metric], rows[1:], **extra)
        words = ("--tasks", path, "--output", tmp_path / "none", "--skip-too-long")
        outcome = call("evaluate", trained.directory, *words)
        assert outcome.code == 2
        assert "task mine: all 1 prompts are too long for the model's" in outcome.err


def test_a_score_whose_package_is_absent_names_what_to_install_and_nothing_is_run(
    call: Caller, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("DLM_COMET_PYTHON", raising=False)
    asked = {"comet": "pip install unbabel-comet", "bertscore": "pip install bert-score"}
    for metric, words in asked.items():
        path = task(tmp_path, ["bleu", metric], [{"src": "a", "tgt": "b"}])
        output = tmp_path / "scores"
        outcome = call("evaluate", trained.directory, "--tasks", path, "--output", output)
        assert outcome.code == 2 and words in outcome.err
        assert not output.exists()


def test_comet_is_asked_in_an_environment_of_its_own_and_its_scores_are_kept(
    call: Caller, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a package in COMET's place: the real one and its model cannot be had here."""
    monkeypatch.setenv("DLM_COMET_PYTHON", str(tmp_path / "python"))
    path = task(tmp_path, ["bleu", "comet"], [{"src": "a", "tgt": "b"}, {"src": "c", "tgt": "d"}])
    words = ("--tasks", path, "--length", "predicted", "--output", tmp_path / "o")
    outcome = call("evaluate", trained.directory, *words)
    assert outcome.code == 2 and "cannot be run: No such file" in outcome.err
    (tmp_path / "python").symlink_to(sys.executable)
    outcome = call("evaluate", trained.directory, *words)
    assert outcome.code == 2 and "cannot import COMET (ModuleNotFoundError" in outcome.err
    (tmp_path / "torch.py").write_text("class cuda: is_available = staticmethod(lambda: False)\n")
    (tmp_path / "comet.py").write_text(
        "class Made:\n"
        "    def predict(self, rows, batch_size, gpus):\n"
        "        self.scores = [0.1 * ord(row['src']) for row in rows]\n"
        "        return self\n"
        "def download_model(name): return name\n"
        "def load_from_checkpoint(path): print(path); return Made()\n"
    )
    paths = [str(tmp_path), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    metrics, samples = scored(call, trained, path, tmp_path / "o", "--length", "predicted")
    values = [0.1 * ord(letter) for letter in "ac"]
    assert [sample["comet"] for sample in samples] == values
    assert metrics["scores"]["comet"]["score"] == pytest.approx(100 * sum(values) / 2)
    assert "COMET Unbabel/wmt22-comet-da" in metrics["scores"]["comet"]["signature"]


def comet_in_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch, predict: str) -> None:
    """A package that COMET's interpreter imports: the real one and its model cannot be had here."""
    (folder / "python").unlink(missing_ok=True)
    (folder / "python").symlink_to(sys.executable)
    (folder / "torch.py").write_text("class cuda: is_available = staticmethod(lambda: False)\n")
    (folder / "comet.py").write_text(
        "class Made:\n"
        "    def predict(self, rows, batch_size, gpus):\n"
        f"        self.scores = {predict}\n"
        "        return self\n"
        "def download_model(name): return name\n"
        "def load_from_checkpoint(path): return Made()\n"
    )
    paths = [str(folder), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
    monkeypatch.setenv("DLM_COMET_PYTHON", str(folder / "python"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.mark.parametrize(
    ("predict", "reason"),
    [
        ("1 / 0", "COMET ended with exit code 1"),
        ("[0.5]", "it gave 1 scores for 2 rows"),
        ("[0.5, float('nan')]", "row 2: its score is nan"),
    ],
)
def test_a_metric_that_fails_costs_neither_texts_nor_the_other_scores(
    predict: str, reason: str, call: Caller, trained: TrainedRun, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = task(tmp_path, ["chrf", "comet"], [{"src": "a", "tgt": "b"}, {"src": "c", "tgt": "d"}])
    comet_in_its_place(tmp_path, monkeypatch, predict)
    words = ("evaluate", trained.directory, "--tasks", path, "--output", tmp_path / "o",
             "--length", "predicted")  # fmt: skip
    outcome = call(*words)
    place = tmp_path / "o" / path.stem
    assert outcome.code == 3 and f"task {path.stem}: metric 'comet' failed ({reason}" in outcome.err
    assert f"The texts are in {place / 'samples.jsonl'}" in outcome.err
    texts = [json.loads(line) for line in (place / "samples.jsonl").read_text().splitlines()]
    assert [text["source"] for text in texts] == ["a", "c"] and "hypothesis" in texts[0]
    partial = json.loads((place / "metrics.partial.json").read_text())
    assert list(partial["scores"]) == ["chrf"] and reason in partial["failed"]["comet"]
    assert not (place / "metrics.json").exists()

    comet_in_its_place(tmp_path, monkeypatch, "[0.25, 0.75]")
    monkeypatch.setattr(diffusion, "denoise", None)  # what would write a text anew
    outcome = call(*words)
    assert outcome.code == 0, outcome.err
    metrics, samples = read_scores(place)
    assert metrics["scores"]["comet"]["score"] == 50
    assert metrics["scores"]["chrf"] == partial["scores"]["chrf"]
    assert [s["hypothesis"] for s in samples] == [text["hypothesis"] for text in texts]
    assert sorted(file.name for file in place.iterdir()) == ["metrics.json", "samples.jsonl"]


def test_of_two_learned_metrics_the_one_that_did_not_fail_is_not_asked_again(
    call: Caller, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = task(tmp_path, ["comet", "bertscore"], [{"src": "a", "tgt": "b"}])
    comet_in_its_place(tmp_path, monkeypatch, "[0.25]")

    def no_memory(texts: Texts) -> list[float]:
        raise MemoryError("the model is too large")

    failing = LearnedScore(lambda: None, no_memory, lambda: "B")
    monkeypatch.setitem(LEARNED, "bertscore", failing)
    words = ("evaluate", trained.directory, "--tasks", path, "--output", tmp_path / "o",
             "--length", "predicted")  # fmt: skip
    outcome = call(*words)
    assert outcome.code == 3
    assert "metric 'bertscore' failed (MemoryError: the model is too large)" in outcome.err
    monkeypatch.setitem(LEARNED, "bertscore", replace(failing, rows=lambda texts: [0.5]))
    monkeypatch.setitem(LEARNED, "comet", replace(LEARNED["comet"], rows=no_memory))
    assert call(*words).code == 0
    metrics, _ = read_scores(tmp_path / "o" / path.stem)
    scores = {name: value["score"] for name, value in metrics["scores"].items()}
    assert scores == {"comet": 25, "bertscore": 50}


def test_a_metric_of_our_own_that_fails_keeps_the_texts_too(
    call: Caller, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(samples: object) -> NoReturn:
        raise ZeroDivisionError("no words")

    of_generation = METRICS["generation"]
    monkeypatch.setitem(of_generation, "chrf", replace(of_generation["chrf"], statistics=broken))
    path = task(tmp_path, ["exact_match", "chrf"], [{"src": "a", "tgt": "b"}])
    outcome = call("evaluate", trained.directory, "--tasks", path, "--output", tmp_path / "o",
                   "--length", "predicted")  # fmt: skip
    assert outcome.code == 3 and "metric 'chrf' failed (ZeroDivisionError: no words)" in outcome.err
    place = tmp_path / "o" / path.stem
    assert "hypothesis" in (place / "samples.jsonl").read_text()
    assert list(json.loads((place / "metrics.partial.json").read_text())["scores"]) == [
        "exact_match"
    ]


def test_comet_reads_the_source_of_the_row_and_not_the_prompt_around_it(
    call: Caller, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = task(tmp_path, ["comet", "chrf"], [{"src": "one", "tgt": "b"}],
                prompt="Into German: {src}")  # fmt: skip
    # A score that says what it was asked.
    comet_in_its_place(tmp_path, monkeypatch, "[float(row['src'] == 'one') for row in rows]")
    metrics, samples = scored(call, trained, path, tmp_path / "o", "--length", "predicted")
    assert metrics["scores"]["comet"]["score"] == 100
    assert samples[0]["source"] == "Into German: one" and samples[0]["source_text"] == "one"


@pytest.mark.parametrize(
    ("prompt", "source"),
    [("{src}", "one"), ("To German: {src} =", "one"), ("{context} {src}", "one"),
     ("{context} {question}", "")],
)  # fmt: skip
def test_the_source_of_a_row_is_the_field_that_is_rewritten(prompt: str, source: str) -> None:
    row = {"src": "one", "context": "c", "question": "q"}
    assert Template(prompt, "{tgt}").source_of(row) == source


def test_a_learned_score_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLM_COMET_PYTHON", "false")
    with pytest.raises(UserError, match="COMET ended with exit code 1"):
        LEARNED["comet"].rows(Texts(["a"], [["b"]], ["c"]))
