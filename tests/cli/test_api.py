"""``dlm.load``: what Python is given is what the command line writes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import Caller, TrainedRun, environment

import dlm
from dlm.generation.generate import generate
from dlm.generation.lengths import of_one_length
from dlm.generation.likelihood import conditional_bounds
from dlm.generation.scored_rows import LikelihoodSettings
from dlm.generation.settings import GenerationSettings

PROMPTS = ["two hundred", "six thousand and thirty", "seven"]
DRAWN: dict[str, Any] = {"sampler": "mdlm", "num_iterations": 4, "temperature": 1.5}


@pytest.fixture(scope="module")
def model(trained: TrainedRun) -> dlm.Model:
    return dlm.load(trained.directory, device="cpu")


def test_importing_dlm_loads_nothing_else_and_a_model_needs_no_trainer(
    trained: TrainedRun,
) -> None:
    code = (
        "import sys, dlm; assert dlm.__version__; "
        "assert not {'torch', 'transformers', 'lightning', 'omegaconf'} & sys.modules.keys(); "
        f"print(dlm.load({str(trained.directory)!r}).generate('seven')); "
        "print({'lightning', 'deepspeed', 'torchmetrics', 'datasets'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("settings", [{}, {"num_iterations": 2, "length_beam": 1}, DRAWN])
def test_answers_are_those_of_dlm_generate(
    settings: dict[str, Any], model: dlm.Model, trained: TrainedRun, call: Caller
) -> None:
    words = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    written = call("generate", trained.directory, *words).out.splitlines()
    answers = model.generate(PROMPTS, **settings)
    assert [answer.text for answer in answers] == written
    assert model.generate(PROMPTS[1], **settings) == answers[1]


def test_equal_prompts_draw_apart_and_as_one_after_the_other(model: dlm.Model) -> None:
    first, second = model.generate(["seven"] * 2, **DRAWN)
    assert first == model.generate("seven", **DRAWN)
    assert second == model.generate("seven", **DRAWN, seed=1)


def test_a_length_is_as_many_tokens_and_needs_no_predictor(trained: TrainedRun) -> None:
    adapted = dlm.load(str(trained.stage("adapt")))
    opened, settings = of_one_length(adapted.opened, GenerationSettings(), 6)
    answers = generate(opened, PROMPTS, settings).answers
    assert [answer.length for answer in answers] == [6, 6, 6]
    assert [a.text for a in adapted.generate(PROMPTS, length=6, num_iterations=10)] == [
        answer.text for answer in answers
    ]
    with pytest.raises(dlm.UserError, match="no length predictor"):
        adapted.generate(PROMPTS)


def test_infilling_keeps_the_rest_to_the_letter(
    model: dlm.Model, trained: TrainedRun, call: Caller
) -> None:
    text = "zwei[MASK:3] und"
    answer = model.infill(text, prompts="two hundred")
    assert answer.text == f"zwei{answer.spans[0]} und"
    words = ("--infill", text, "--prompt", "two hundred")
    assert call("generate", trained.directory, *words).out.rstrip("\n") == answer.text
    assert model.infill([text, text]) == [model.infill(text)] * 2


def test_a_score_is_the_bound_of_the_pair_alone_and_in_a_list(model: dlm.Model) -> None:
    pairs = [("two hundred", "zweihundert"), ("seven", "sieben")]
    prompts, responses = (list(column) for column in zip(*pairs, strict=True))
    scores = model.score(prompts, responses, samples=8)
    settings = LikelihoodSettings(samples=8)
    for pair, score in zip(pairs, scores, strict=True):
        (bound,) = conditional_bounds(model.opened, [pair[0]], [pair[1]], settings)
        assert score.log_likelihood == pytest.approx(-bound.nats.value, abs=1e-5)
        assert score.tokens == bound.tokens and score.standard_error > 0
        assert score == model.score(*pair, samples=8)


def test_a_trace_is_written_beside_the_answer(model: dlm.Model, tmp_path: Path) -> None:
    answer = model.trace("seven", tmp_path / "trace.html", num_iterations=3)
    page = (tmp_path / "trace.html").read_text(encoding="utf-8")
    assert "</html>" in page and answer == model.generate("seven", num_iterations=3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_iteration": 3}, "num_iterations"),  # did you mean
        ({"num_iterations": "ten"}, "num_iterations"),
        ({"num_iterations": 0}, "at least 1"),
        ({"sampler": "mdml"}, "mdlm"),
        ({"beam_size": 3}, "beam_size would be ignored"),
        ({"canvas_length": 8}, "canvas_length would be ignored"),
        ({"length": 0}, "at least 1 token"),
        ({"length": 400}, r"behind prompts\[0\] there is room for"),
        ({"length": "predict"}, "predicted"),
    ],
)
def test_impossible_settings_are_value_errors_that_name_them(
    settings: dict[str, Any], said: str, model: dlm.Model
) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        model.generate("seven", **settings)
    assert isinstance(raised.value, dlm.UserError)


def test_impossible_texts_are_named_by_their_place(model: dlm.Model, tmp_path: Path) -> None:
    for texts, said in (
        (["seven", " "], r"prompts\[1\] is empty"),
        (["seven", 7], r"prompts\[1\] is int, not text"),
        (["seven " * 90], r"prompts\[0\] has .* tokens"),
    ):
        with pytest.raises(dlm.UserError, match=said):
            model.generate(texts)  # type: ignore[arg-type]
    for ask, said in (
        (lambda: model.infill("no mask"), r"texts\[0\]"),
        (lambda: model.infill(["a [MASK]"], prompts=["a", "b"]), "2 prompts for 1 texts"),
        (lambda: model.infill("a [MASK]", length=3), "length would be ignored"),
        (lambda: model.score(["a"], ["b", "c"]), "1 prompts for 2 responses"),
        (lambda: model.score("a", "b", estimator="exact"), "exactly_l"),
        (lambda: model.score("a", "b", samples=1), "2"),
        (lambda: model.trace("seven", tmp_path / "trace.gif"), "must end in"),
        (lambda: dlm.load(tmp_path / "nothing"), "there is no directory"),
    ):
        with pytest.raises(dlm.UserError, match=said):
            ask()
    assert model.generate([]) == []


def test_scalars_of_numpy_and_a_settings_other_name_are_understood(model: Any) -> None:
    drawn = model.generate(PROMPTS, sampler="mdlm", num_iterations=4, temperature=1.5, seed=3)
    scalars = {"steps": np.int64(4), "temperature": np.float32(1.5), "seed": np.int64(3)}
    assert model.generate(np.array(PROMPTS), sampler="mdlm", **scalars) == drawn
    assert model.generate("seven", length=np.int32(5)) == model.generate("seven", length=5)
    score = model.score("seven", "sieben", samples=8, seed=3)
    assert model.score("seven", "sieben", samples=np.int64(8), seed=np.int64(3)) == score
    assert model.infill("a [MASK]", length=None) == model.infill("a [MASK]")


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (None, "prompts is NoneType"),
        (7, "prompts is int"),
        (b"seven", "prompts is bytes"),
        ({"seven": 7}, "prompts is dict"),
        ({"seven"}, "prompts is set"),
        (np.array("seven"), "prompts"),
        (np.array([["seven"]]), r"prompts\[0\] is ndarray"),
        (["seven", float("nan")], r"prompts\[1\] is float"),
        (["a\udc80"], r"prompts\[0\] is not UTF-8"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts: Any, said: str, model: Any) -> None:
    """A mapping or a table would be gone through by its names, a set in no order."""
    with pytest.raises(dlm.UserError, match=said):
        model.generate(texts)
    with pytest.raises(dlm.UserError, match=said):
        model.score(texts, ["sieben"])


def test_a_table_is_refused_and_its_column_is_a_list(model: dlm.Model) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"prompt": PROMPTS})
    with pytest.raises(dlm.UserError, match=r"prompts is DataFrame.* one of its columns"):
        model.generate(table)
    assert model.generate(table["prompt"]) == model.generate(PROMPTS)


def test_what_would_be_ignored_or_drawn_otherwise_is_refused(
    model: Any, trained: TrainedRun, tmp_path: Path
) -> None:
    adapted = dlm.load(trained.stage("adapt"))
    for ask, said in (
        (lambda: model.generate("seven", length=5, length_beam=3), "length_beam would be ignored"),
        (lambda: model.generate("seven", length=5, min_length=2), "length=5 says how many"),
        (lambda: model.generate("seven", length=5.0), "a whole number of tokens"),
        (lambda: adapted.generate("seven"), "such as length=20"),
        (lambda: model.infill("a [MASK]", prompts=""), r"prompts\[0\] is empty"),
        (lambda: model.score("a", "b", seed=2**64), "seed=18446744073709551616"),
        (lambda: model.score("a", "b", seed=-1), "seed=-1"),
        (lambda: model.score("a", "b", samples=2.5), "samples=2.5"),
        (lambda: model.trace(["a", "b"], tmp_path / "t.html"), "a trace is of one answer"),
        (lambda: model.trace("a", tmp_path / "none" / "t.html"), "there is no directory"),
        (lambda: dlm.load(trained.directory, device="gpu"), "device='gpu'"),
        (lambda: dlm.load(None), "place is None"),  # type: ignore[arg-type]
    ):
        with pytest.raises(dlm.UserError, match=said):
            ask()
    assert not list(tmp_path.iterdir())
