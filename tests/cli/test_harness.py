"""Our models under lm-evaluation-harness: the numbers of dlm, whatever the batch."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_tools import Caller, TrainedRun, read_scores
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM

from dlm.data.prompt_forms import PromptForm
from dlm.data.rows.encoding import encode_prompts, encode_responses
from dlm.errors import UserError
from dlm.generation.generate import generate
from dlm.generation.lengths import of_one_length
from dlm.generation.likelihood import conditional_bounds, rolling_bounds
from dlm.generation.scored_rows import LikelihoodSettings
from dlm.harness.__main__ import main
from dlm.harness.contexts import fitting
from dlm.harness.model import HarnessModel
from dlm.models.sums import write_sums

PROMPTS = ["seven", "two hundred and seven", "friday the fifteenth of august", "twelve"]
RESPONSES = ["sieben", "zwei hundert", "freitag der fünfzehnte", "zwölf"]
SETTINGS = LikelihoodSettings(samples=4)


def requests(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [
        Instance(kind, {}, given, idx=0, metadata=("numbers", number, 1))
        for number, given in enumerate(arguments)
    ]


@pytest.fixture(scope="module")
def model(trained: TrainedRun) -> HarnessModel:
    return HarnessModel(str(trained.directory), samples=4)


def another(trained: TrainedRun, **arguments: Any) -> HarnessModel:
    return HarnessModel(str(trained.directory), **({"samples": 4} | arguments))


PAIRS = [(prompt, f" {response}") for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]


def test_a_log_likelihood_is_our_bound_and_the_space_between_is_dropped(
    model: HarnessModel, trained: TrainedRun
) -> None:
    found = model.loglikelihood(requests("loglikelihood", *PAIRS))
    bounds = conditional_bounds(model.model, PROMPTS, RESPONSES, SETTINGS)
    assert found == [(-bound.nats.value, False) for bound in bounds]
    per_token = another(trained, loglikelihood="per_token")
    found = per_token.loglikelihood(requests("loglikelihood", *PAIRS))
    assert found == [(-bound.per_token.value, False) for bound in bounds]
    chain = another(trained, estimator="chain_rule")
    exact = conditional_bounds(
        model.model, PROMPTS, RESPONSES, LikelihoodSettings(estimator="chain_rule")
    )
    found = chain.loglikelihood(requests("loglikelihood", *PAIRS))
    assert found == [(-bound.nats.value, False) for bound in exact]


def test_neither_batches_nor_the_order_of_requests_change_a_result(
    model: HarnessModel, trained: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlm.harness.model.CHUNK", 3)
    narrow = another(trained, batch_tokens=40)
    scored = requests("loglikelihood", *PAIRS, ("", "sieben"))
    values = [value for value, _ in model.loglikelihood(scored)]
    turned = [value for value, _ in narrow.loglikelihood(scored[::-1])]
    assert turned[::-1] == pytest.approx(values, rel=1e-5) and len(set(values)) == 5
    asked = requests(
        "generate_until",
        *[(p, {"until": ["\n"], "max_gen_toks": 32 - n % 2}) for n, p in enumerate(PROMPTS)],
    )
    assert narrow.generate_until(asked[::-1])[::-1] == model.generate_until(asked)


def test_a_text_without_context_and_a_rolling_text_stand_alone(model: HarnessModel) -> None:
    texts = ["seven and twelve", "one two three four five six seven eight nine ten " * 4]
    bounds = [-bound.nats.value for bound in rolling_bounds(model.model, texts, SETTINGS)]
    rolled = model.loglikelihood_rolling(
        requests("loglikelihood_rolling", *[(text,) for text in texts])
    )
    assert rolled == bounds
    alone = model.loglikelihood(requests("loglikelihood", ("", texts[0])))[0][0]
    assert alone == pytest.approx(bounds[0], rel=1e-6)


def test_answers_are_those_of_dlm_up_to_a_stop_string_and_the_limit(model: HarnessModel) -> None:
    made = generate(model.model, PROMPTS, model.settings).answers
    whole = [answer.text for answer in made]
    assert all(whole)
    asked: list[tuple[str, dict[str, Any]]] = [
        (prompt + " ", {"until": ["\n\n"]}) for prompt in PROMPTS
    ]
    assert model.generate_until(requests("generate_until", *asked)) == whole
    stop = whole[0][2]
    asked = [(prompt, {"until": [stop, "never"]}) for prompt in PROMPTS]
    cut = model.generate_until(requests("generate_until", *asked))
    assert cut == [text.split(stop)[0] for text in whole] and cut[0] != whole[0]
    asked = [(prompt, {"until": [], "max_gen_toks": 2}) for prompt in PROMPTS]
    short = model.generate_until(requests("generate_until", *asked))
    assert all(text.startswith(start) and len(start) < len(text) for text, start in zip(
        whole, short, strict=True))  # fmt: skip


def test_a_model_without_lengths_takes_as_many_tokens_as_the_task_allows(
    trained: TrainedRun,
) -> None:
    adapted = HarnessModel(str(trained.stage("adapt")), length="max_gen_toks")
    asked = [(PROMPTS[0], {"max_gen_toks": count}) for count in (3, 9, 3)]
    short, long, again = adapted.generate_until(requests("generate_until", *asked))
    assert len(short) < len(long) and short == again
    of_nine = of_one_length(adapted.model, adapted.settings, 9)
    assert long == generate(of_nine[0], PROMPTS[:1], of_nine[1]).answers[0].text
    assert adapted.get_model_info()["dlm_generation"]["length"] == "max_gen_toks"
    without = HarnessModel(str(trained.stage("adapt")))
    with pytest.raises(UserError, match="this model has no length predictor"):
        without.generate_until(requests("generate_until", *asked))


def test_drawn_answers_to_one_request_differ_from_each_other(
    model: HarnessModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"do_sample": True, "temperature": 1.0}
    asked = requests("generate_until", *[(PROMPTS[0], how)] * 3)
    drawn = model.generate_until(asked)
    assert len(set(drawn)) == 3
    monkeypatch.setattr("dlm.harness.model.CHUNK", 2)
    assert model.generate_until(asked) == drawn
    still = requests("generate_until", (PROMPTS[0], {"do_sample": False, "temperature": 1.0}))
    assert model.generate_until(still)[0] not in drawn


def test_greedy_is_found_out_where_it_is_asked_for(
    trained: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second_alone(model: Any, pairs: list[Any], settings: Any) -> list[bool]:
        return [pair.response == RESPONSES[1] for pair in pairs]

    monkeypatch.setattr("dlm.harness.model.greedy", second_alone)
    found = another(trained, is_greedy=True).loglikelihood(requests("loglikelihood", *PAIRS))
    assert [greedy for _, greedy in found] == [False, True, False, False]


LONG = " ".join(["twelve hundred and seven"] * 12)


@pytest.mark.parametrize("name", ["loglikelihood", "generate_until"])
def test_a_context_that_does_not_fit_is_refused_or_loses_its_beginning(
    name: str, model: HarnessModel, trained: TrainedRun
) -> None:
    second = " sieben" if name == "loglikelihood" else {"max_gen_toks": 8}
    asked = requests(name, ("seven", second), (LONG, second))
    with pytest.raises(UserError) as refused:
        getattr(model, name)(asked)
    assert "task numbers, document 1: a context of 86 tokens and " in str(refused.value)
    assert "do not fit the model's 64 positions: --model_args too_long=" in str(refused.value)
    cutting = another(trained, too_long="truncate")
    found = getattr(cutting, name)(asked)
    assert cutting.get_model_info()["dlm_cut_contexts"] == 1
    scored = len(encode_responses(model.model.tokenizer, ["sieben"])[0])
    behind = 1 + (scored if name == "loglikelihood" else 8)
    (kept,), _ = fitting(model.model, [LONG], [behind], ["here"], "truncate")
    assert found == getattr(model, name)(requests(name, ("seven", second), (kept, second)))


def test_what_is_left_of_a_context_is_its_longest_end_that_fits(model: HarnessModel) -> None:
    tokenizer = model.model.tokenizer
    for behind in range(2, 50, 7):
        (kept,), cut = fitting(model.model, [LONG], [behind], ["here"], "truncate")
        assert cut == 1 and LONG.endswith(kept)
        most = 64 - behind
        assert most - 2 <= len(encode_prompts(tokenizer, [kept])[0]) <= most


def test_a_continuation_longer_than_the_model_is_refused_even_so(trained: TrainedRun) -> None:
    cutting = another(trained, too_long="truncate")
    with pytest.raises(UserError, match="do not fit the model's 64 positions: shorten it"):
        cutting.loglikelihood(requests("loglikelihood", ("seven", LONG)))
    with pytest.raises(UserError, match="the continuation is empty"):
        cutting.loglikelihood(requests("loglikelihood", ("seven", " ")))


def test_responses_go_into_the_cache_of_the_harness_at_once(
    model: HarnessModel, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlm.harness.model.CHUNK", 2)
    asked = requests("loglikelihood", *PAIRS)
    cached = CachingLM(another(trained), str(tmp_path / "responses.db"))
    stopped = 0

    def stop(*arguments: Any) -> Any:
        nonlocal stopped
        stopped += 1
        if stopped == 2:
            raise KeyboardInterrupt
        return conditional(*arguments)

    from dlm.harness.likelihoods import pair_bounds as conditional

    monkeypatch.setattr("dlm.harness.model.pair_bounds", stop)
    with pytest.raises(KeyboardInterrupt):
        cached.loglikelihood(asked)
    monkeypatch.setattr("dlm.harness.model.pair_bounds", conditional)
    left: list[int] = []
    again = CachingLM(another(trained), str(tmp_path / "responses.db"))
    whole = again.lm.loglikelihood

    def counted(rest: list[Instance]) -> Any:
        left.append(len(rest))
        return whole(rest)

    again.lm.loglikelihood = counted
    found = [tuple(value) for value in again.loglikelihood(asked)]
    assert left == [2], "the first chunk was kept"
    assert found == model.loglikelihood(asked)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown argument": ({"step": 3}, "--model_args step is not known; did you mean 'steps'"),
    "an estimator": ({"estimator": "exact"}, "estimator=exact: choose one of exactly_l, bern"),
    "a scale": ({"loglikelihood": "mean"}, "loglikelihood=mean: choose one of sum, per_token"),
    "too long": ({"too_long": "cut"}, "too_long=cut: choose one of error, truncate"),
    "oracle lengths": ({"length": "oracle"}, "length=oracle: choose one of predicted, canvas"),
    "no canvas": ({"length": "canvas"}, "this model was not trained with a canvas"),
    "no iterations": ({"num_iterations": 0}, "num_iterations must be at least 1"),
    "no steps": ({"steps": 0}, "num_iterations must be at least 1"),
    "both": ({"steps": 2, "num_iterations": 3}, "steps is num_iterations, which is given"),
    "a sampler": ({"sampler": "rmd"}, "unknown sampler 'rmd': did you mean 'rdm'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_argument_is_refused(case: str, trained: TrainedRun) -> None:
    arguments, text = REFUSED[case]
    with pytest.raises(UserError) as refused:
        another(trained, **arguments)
    assert text in str(refused.value)


def test_one_sample_and_a_launcher_are_refused(
    model: HarnessModel, trained: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="samples=1 gives no standard error"):
        another(trained, samples=1).loglikelihood(requests("loglikelihood", *PAIRS))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="runs in one process"):
        another(trained)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"until": 5}, "until=5 must be a text or a list of texts"),
        ({"max_gen_toks": 0}, "max_gen_toks=0 must be a whole number, at least 1"),
        ({"do_sample": True, "top_p": 3.0}, "top_p must be above 0 and at most 1, not 3.0"),
    ],
)  # fmt: skip
def test_a_task_that_asks_for_the_impossible_is_refused(
    how: dict[str, Any], text: str, model: HarnessModel
) -> None:
    with pytest.raises(UserError, match=text):
        model.generate_until(requests("generate_until", ("seven", how)))


def test_what_is_not_read_is_said(trained: TrainedRun, caplog: pytest.LogCaptureFixture) -> None:
    told = another(trained, batch_size=16)
    assert "batch_size=16 is not read: batches are counted in tokens" in caplog.text
    told.generate_until(requests("generate_until", *[(p, {"num_beams": 4}) for p in PROMPTS]))
    assert caplog.text.count("generation_kwargs: num_beams changes nothing here") == 1


def test_its_command_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dlm.harness", "--tasks", "x"])
    monkeypatch.setitem(sys.modules, "lm_eval.__main__", None)
    assert main() == 2
    assert "pip install 'dlm[harness]'" in capsys.readouterr().err


def test_a_model_of_conversations_is_asked_by_its_chat_template(
    trained: TrainedRun, tmp_path: Path
) -> None:
    export = shutil.copytree(trained.stage("length") / "export", tmp_path / "chat")
    template = PromptForm("chat", "{dialogue}").chat_template()
    assert template is not None
    (export / "chat_template.jinja").write_text(template, encoding="utf-8")
    write_sums(export)
    model = HarnessModel(str(export), samples=4)
    assert model.chat_template(True) == template and model.chat_template(False) is None
    turns = [{"role": "user", "content": "seven"}, {"role": "assistant", "content": "sieben"},
             {"role": "user", "content": "two"}]  # fmt: skip
    worded = "User: seven\n\nAssistant: sieben\n\nUser: two\n\nAssistant:"
    assert model.apply_chat_template(turns) == worded
    assert model.apply_chat_template(turns[:2], add_generation_prompt=False) == (
        "User: seven\n\nAssistant: sieben"
    )
    with pytest.raises(UserError, match="has one template, without a name"):
        model.chat_template("tools")


def test_a_model_without_a_chat_template_is_not_asked_by_one(model: HarnessModel) -> None:
    with pytest.raises(UserError, match=r"was not trained on conversations .* doc_to_text"):
        model.chat_template(True)


def local_tasks(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Two tasks of the harness over local JSON lines."""
    common = {"dataset_path": "json", "test_split": "test", "doc_to_text": "{{source}}"}
    own: dict[str, dict[str, Any]] = {
        "choices": {
            "output_type": "multiple_choice", "doc_to_choice": "{{choices}}",
            "doc_to_target": "right", "metric_list": [{"metric": "acc"}],
        },
        "pairs": {
            "output_type": "generate_until", "doc_to_target": "{{reference}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 64},
            "metric_list": [{"metric": "exact_match"}],
        },
    }  # fmt: skip
    for name, settings in own.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows[name]), encoding="utf-8")
        files = {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")}
        task = {"task": f"local_{name}", "dataset_kwargs": files, **common, **settings}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))


@pytest.mark.slow
def test_the_harness_and_dlm_evaluate_give_the_same_rows_the_same_scores(
    trained: TrainedRun, call: Caller, tmp_path: Path
) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    export = tmp_path / "model"
    assert call("export", trained.directory, "--to", export).code == 0
    words = ("--tasks", "choose_number_de,numbers_en_de", "--limit", "12",
             "--likelihood-samples", "4", "--output", tmp_path / "scores")  # fmt: skip
    assert call("evaluate", export, *words).code == 0
    metrics, samples = {}, {}
    for name, task in {"choices": "choose_number_de", "pairs": "numbers_en_de"}.items():
        metrics[name], samples[name] = read_scores(tmp_path / "scores" / task)
    local_tasks(tmp_path, samples)
    results = simple_evaluate(
        model="dlm", model_args={"path": str(export), "samples": 4, "loglikelihood": "per_token"},
        tasks=["local_choices", "local_pairs"], bootstrap_iters=10,
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
    )  # fmt: skip
    assert results is not None
    logged = {
        name: sorted(results["samples"][f"local_{name}"], key=lambda row: row["doc_id"])
        for name in samples
    }
    assert [[-float(value) for value, _ in row["filtered_resps"]] for row in logged["choices"]] == [
        row["nats_per_token"] for row in samples["choices"]
    ]
    assert [row["filtered_resps"][0] for row in logged["pairs"]] == [
        row["hypothesis"] for row in samples["pairs"]
    ]
    accuracy = 100 * results["results"]["local_choices"]["acc,none"]
    assert accuracy == pytest.approx(metrics["choices"]["scores"]["accuracy"]["score"])
    assert 0 < accuracy < 100
    exact = 100 * results["results"]["local_pairs"]["exact_match,none"]
    assert exact == pytest.approx(metrics["pairs"]["scores"]["exact_match"]["score"])
    settings = results["config"]["dlm_generation"]
    assert settings == {k: v for k, v in metrics["pairs"]["generation"].items() if k != "kind"}
    assert results["config"]["dlm_likelihood"]["samples"] == 4
