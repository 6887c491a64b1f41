"""dlm generate: from a run, a stage or a model directory; and what it refuses."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_tools import Caller, TrainedRun, dlm

from dlm.cli import build_parser
from dlm.generation.answers import rounds
from dlm.models.sums import write_sums

PROMPTS = ["seven", "two hundred and seven", "friday the fifteenth of august", "twelve"]


def write(path: Path, *lines: str | bytes) -> Path:
    raw = [line if isinstance(line, bytes) else line.encode() for line in lines]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def test_a_run_its_stage_and_its_export_give_the_same_answer(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    same = ("--prompt", PROMPTS[0], "--num-iterations", "3", "--length-beam", "2")
    run = call("generate", trained.directory, "--prompt", PROMPTS[0])
    assert run.code == 0 and run.out.strip()
    stage = call("generate", trained.stage("length"), "--prompt", PROMPTS[0])
    assert call("export", trained.directory, "--to", tmp_path / "model").code == 0
    exported = call("generate", tmp_path / "model", *same)
    assert stage.out == exported.out == run.out


def test_several_prompts_keep_their_order_and_a_second_time_gives_the_same(
    call: Caller, trained: TrainedRun
) -> None:
    words = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    together = call("generate", trained.directory, *words)
    again = call("generate", trained.directory, *words)
    alone = [call("generate", trained.directory, "--prompt", prompt).out for prompt in PROMPTS]
    assert together.code == 0
    assert together.out == again.out == "".join(alone)


def test_a_file_of_prompts_becomes_a_file_of_answers(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    rows = [json.dumps({"prompt": prompt, "id": n}) for n, prompt in enumerate(PROMPTS)]
    source = write(tmp_path / "in.jsonl", *rows)
    outputs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for output in outputs:
        outcome = call("generate", trained.directory, "--input", source, "--output", output)
        assert outcome.code == 0
        assert outcome.out.strip() == f"4 answers in {output}"
    answers = [json.loads(line) for line in outputs[0].read_text(encoding="utf-8").splitlines()]
    assert [answer["prompt"] for answer in answers] == PROMPTS
    assert all(isinstance(a["text"], str) and a["score"] <= 0 for a in answers)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    printed = call("generate", trained.directory, "--input", source)
    assert printed.out.splitlines() == [answer["text"] for answer in answers]


def test_standard_output_holds_the_answers_alone(trained: TrainedRun) -> None:
    outcome = dlm("generate", trained.directory, "--prompt", PROMPTS[0])
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 1


def test_steps_is_another_name_of_num_iterations(call: Caller, trained: TrainedRun) -> None:
    words = ("generate", trained.directory, "--prompt", PROMPTS[1])
    outcomes = [call(*words, flag, "1").out for flag in ("--num-iterations", "--steps")]
    assert outcomes[0] == outcomes[1] != ""
    assert build_parser().parse_args(["generate", "m", "--steps", "7"]).num_iterations == 7


@pytest.mark.parametrize("words", [("--steps", "1"), ("--sampler", "frozen-linear")])
def test_the_command_line_wins_over_the_recipes_settings(
    words: tuple[str, str], call: Caller, trained: TrainedRun
) -> None:
    assert call("generate", trained.directory, "--prompt", "seven", *words).code == 0


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("autoregressive", ("--num-iterations", "4")),
        ("autoregressive", ("--sampler", "frozen-linear")),
        ("autoregressive", ("--length-beam", "2")),
        ("diffusion", ("--beam-size", "2")),
    ],
)
def test_an_option_of_the_other_kind_of_model_is_refused_with_the_reason(
    kind: str, words: tuple[str, str], call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained.stage("length") / "export", model)
    (model / "dlm.json").write_text(json.dumps({"kind": kind}))
    write_sums(model)
    article = "an" if kind == "autoregressive" else "a"
    reason = f"{words[0]} would be ignored: {model} is {article} {kind} model, which reads --"
    outcome = call("generate", model, "--prompt", "seven", *words)
    assert outcome.code == 2 and reason in outcome.err
    tasks = ("--tasks", "numbers_en_de", "--output", tmp_path / "scores")
    outcome = call("evaluate", model, *tasks, *words)
    assert outcome.code == 2 and reason in outcome.err and not (tmp_path / "scores").exists()


SETTINGS: dict[tuple[str, ...], str] = {
    ("--length-beam", "0"): "--length-beam must be at least 1 and at most ",
    ("--steps", "0"): "--num-iterations must be at least 1 and at most ",
    ("--prompt-cache", "0"): "--prompt-cache must be at least 1 and at most ",
    ("--steps", "-3"): "--num-iterations must be at least 1 and at most ",
    ("--sampler", "frozen-cosin"): "did you mean 'frozen-cosine'? choose from",
}


@pytest.mark.parametrize("words", SETTINGS, ids=" ".join)
def test_a_wrong_setting_is_refused(
    words: tuple[str, ...], call: Caller, trained: TrainedRun
) -> None:
    outcome = call("generate", trained.directory, "--prompt", "seven", *words)
    assert outcome.code == 2
    assert SETTINGS[words] in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("prompts", "text"),
    [
        ([""], "prompt 1 of 1 is empty: give it some text"),
        (["seven", " \t"], "prompt 2 of 2 is empty: give it some text"),
        (["\udcff"], "prompt 1 of 1 is not UTF-8"),
        (["seven", "one " * 80], "leaves no room for an answer in the model's 64 positions"),
    ],
)
def test_a_prompt_that_cannot_be_answered_is_named(
    prompts: list[str], text: str, call: Caller, trained: TrainedRun
) -> None:
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    outcome = call("generate", trained.directory, *words)
    assert outcome.code == 2
    assert f"prompt {len(prompts)} of {len(prompts)}" in outcome.err
    assert text in outcome.err


SECOND_LINE: dict[str, tuple[str | bytes, str]] = {
    "empty": ('{"prompt": ""}', "is empty: give it some text"),
    "a number": ('{"prompt": 5}', "field 'prompt' is a number, not text (the row has prompt)"),
    "null": ('{"prompt": null}', "field 'prompt' is null, not text"),
    "another field": ('{"promt": "five"}', "is missing (the row has promt; did you mean 'promt'?)"),
    "broken": ('{"prompt": "five"', "not JSON (Expecting ',' delimiter at column"),
    "not UTF-8": (b'{"prompt": "\xff"}', "not UTF-8 (byte 13 of the line"),
    "too long": (json.dumps({"prompt": "one " * 80}), "leaves no room for an answer"),
}


@pytest.mark.parametrize("name", SECOND_LINE)
def test_a_bad_line_of_the_input_is_named(
    name: str, call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    line, text = SECOND_LINE[name]
    source = write(tmp_path / "in.jsonl", '{"prompt": "seven"}', line)
    output = tmp_path / "out.jsonl"
    outcome = call("generate", trained.directory, "--input", source, "--output", output)
    assert outcome.code == 2
    assert f"{source}, line 2" in outcome.err
    assert text in outcome.err
    assert not output.exists()


def test_an_input_that_is_not_there_or_empty_is_refused(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    missing = call("generate", trained.directory, "--input", tmp_path / "nothere.jsonl")
    assert missing.code == 2
    assert f"there is no file {tmp_path / 'nothere.jsonl'}: give --input JSON lines" in missing.err
    (tmp_path / "empty.jsonl").touch()
    empty = call("generate", trained.directory, "--input", tmp_path / "empty.jsonl")
    assert empty.code == 2
    assert "has no rows" in empty.err


def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    call: Caller, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.jsonl", '{"prompt": "seven"}')
    monkeypatch.setattr("dlm.verbs.models.open_located", None)  # not to be reached
    for output, text in (
        (tmp_path / "nowhere" / "out.jsonl", f"there is no directory {tmp_path / 'nowhere'}"),
        (tmp_path, "is a directory: give it a file"),
        (source, "is the input: give it another name"),
    ):
        outcome = call("generate", trained.directory, "--input", source, "--output", output)
        assert outcome.code == 2
        assert text in outcome.err
    assert source.read_text() == '{"prompt": "seven"}\n'


@pytest.mark.parametrize("stage", ["pretrain", "adapt"])
def test_a_model_without_a_length_predictor_says_how_to_get_one(
    stage: str, call: Caller, trained: TrainedRun
) -> None:
    outcome = call("generate", trained.stage(stage), "--prompt", "seven")
    assert outcome.code == 2
    assert "has no length predictor" in outcome.err
    assert f"add a stage {{kind: length, init_from: {stage}}}" in outcome.err


@pytest.mark.parametrize("stage", ["tokenizer", "evaluate"])
@pytest.mark.parametrize("verb", ["generate", "export"])
def test_a_stage_that_makes_no_model_is_refused(
    stage: str, verb: str, call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    more = ("--prompt", "seven") if verb == "generate" else ("--to", tmp_path / "model")
    outcome = call(verb, trained.stage(stage), *more)
    assert outcome.code == 2
    assert f"is a stage of kind {stage}, which makes no model" in outcome.err


def test_a_run_whose_stages_are_not_finished_is_refused(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.directory, run)
    for stage in run.glob("*_*"):
        (stage / "manifest.json").unlink()
    outcome = call("generate", run, "--prompt", "seven")
    assert outcome.code == 2
    assert f"{run}: no stage that generates is finished" in outcome.err
    assert f"`dlm status {run}`" in outcome.err
    stage = next(run.glob("*_length"))
    outcome = call("generate", stage, "--prompt", "seven")
    assert outcome.code == 2
    assert f"{stage} is not finished: `dlm status {run}`" in outcome.err


def test_a_served_stage_that_is_not_finished_is_named_with_those_that_are(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.directory, run)
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("serve: null", "serve: length"))
    next(run.glob("*_length")).joinpath("manifest.json").unlink()
    outcome = call("generate", run, "--prompt", "seven")
    assert outcome.code == 2
    assert "stage length is not finished yet" in outcome.err
    assert f"name a finished stage: {next(run.glob('*_adapt'))}" in outcome.err


def test_a_place_that_is_no_model_is_refused(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    places = {
        tmp_path: "is no run (no recipe.yaml), no stage (no export/) and no model directory",
        tmp_path / "nothere": f"there is no directory {tmp_path / 'nothere'}",
        trained.recipe: "is a file: give a run, a stage or a model directory",
        Path("runs/nothere"): "there is no directory runs/nothere",
        Path("nothere"): "nothere is no directory here, and as a hub name",
    }
    for place, text in places.items():
        outcome = call("generate", place, "--prompt", "seven")
        assert outcome.code == 2
        assert text in outcome.err


def test_export_never_writes_over_anything(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    outcome = call("export", trained.directory, "--to", tmp_path / "model")
    assert outcome.code == 2
    assert "is there already: give --to a new directory" in outcome.err
    inside = trained.stage("length") / "export" / "copy"
    outcome = call("export", trained.directory, "--to", inside)
    assert outcome.code == 2
    assert not inside.exists()


def test_each_time_a_prompt_is_asked_it_has_draws_of_its_own(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    drawn = ("--sampler", "llada", "--temperature", "1.5")

    def answers(*words: str) -> list[str]:
        output = tmp_path / "out.jsonl"
        outcome = call("generate", trained.directory, *words, *drawn, "--output", output)
        assert outcome.code == 0, outcome.err
        return [json.loads(line)["text"] for line in output.read_text().splitlines()]

    several = answers("--prompt", PROMPTS[1], "--prompt", PROMPTS[0], "--num-samples", "3")
    assert len(several) == 6 and len(set(several[:3])) > 1
    seeds = [answers("--prompt", PROMPTS[1], "--seed", str(seed))[0] for seed in range(3)]
    assert several[:3] == seeds, "the n-th answer is that of the n-th seed, whatever else is asked"
    repeated = [word for _ in range(3) for word in ("--prompt", PROMPTS[1])]
    assert answers(*repeated) == seeds


def test_several_texts_are_filled_in(call: Caller, trained: TrainedRun) -> None:
    words = ("--infill", "two [MASK:3]", "--sampler", "llada", "--temperature", "1.5")
    outcome = call("generate", trained.directory, *words, "--num-samples", "4")
    assert outcome.code == 0 and len(set(outcome.out.splitlines())) > 1
    first = call("generate", trained.directory, *words)
    assert outcome.out.splitlines()[0] == first.out.rstrip("\n")


def test_several_answers_that_would_be_the_same_are_refused(
    call: Caller, trained: TrainedRun
) -> None:
    outcome = call("generate", trained.directory, "--prompt", "seven", "--num-samples", "2")
    assert outcome.code == 2 and "--num-samples 2: nothing is drawn" in outcome.last_line


def test_rounds_hold_each_request_once() -> None:
    assert rounds("abacab") == [[0, 1, 3], [2, 5], [4]]
    assert rounds([]) == []


def asked_with(trained: TrainedRun, target: Path, *forms: dict[str, str]) -> Path:
    """A copy of the export that says how its prompts were worded."""
    shutil.copytree(trained.stage("length") / "export", target)
    path = target / "dlm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": forms}))
    write_sums(target)
    return target


def test_conversations_are_worded_as_in_training_and_bare_prompts_are_told_so(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    model = asked_with(trained, tmp_path / "model", {"task": "chat", "prompt": "{dialogue}"})
    turns = [{"role": "user", "content": "seven"}]
    rows = [{"messages": turns}, {"conversations": turns}, {"prompt": turns}]
    source = write(tmp_path / "in.jsonl", *map(json.dumps, rows))
    conversations = call("generate", model, "--input", source, "--output", tmp_path / "out.jsonl")
    assert conversations.code == 0 and "worded" not in conversations.err
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {answer["prompt"] for answer in answers} == {"User: seven\n\nAssistant:"}
    by_hand = call("generate", model, "--prompt", "User: seven\n\nAssistant:")
    assert "worded" not in by_hand.err
    assert {answer["text"] for answer in answers} == {by_hand.out.rstrip("\n")}
    bare = call("generate", model, "--prompt", "seven")
    assert bare.code == 0
    assert (
        'word them as "User: ...\\n\\nAssistant:", or give --input rows with `messages`' in bare.err
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
         "has a 'prompt' and 'messages', of which one would be ignored: remove it"),
        ({"messages": [{"role": "user", "content": "b"}]},
         "is a conversation, and the model is not known to be trained on any"),
    ],
)  # fmt: skip
def test_a_conversation_is_refused_where_it_would_not_be_read(
    row: dict[str, Any], problem: str, call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", json.dumps(row))
    outcome = call("generate", trained.directory, "--input", source)
    assert outcome.code == 2 and problem in outcome.last_line


def test_an_export_says_how_its_prompts_are_worded(trained: TrainedRun) -> None:
    for stage in ("adapt", "length"):
        said = json.loads((trained.stage(stage) / "export" / "dlm.json").read_text())
        assert said["prompts"] == [{"task": "translation", "prompt": "{src}"}]
    pretrained = json.loads((trained.stage("pretrain") / "export" / "dlm.json").read_text())
    assert "prompts" not in pretrained


def test_a_model_of_texts_draws_them_without_a_prompt(
    call: Caller, trained: TrainedRun, tmp_path: Path
) -> None:
    """The n-th is a function of seed and n, whatever else is drawn."""
    model = tmp_path / "model"
    shutil.copytree(trained.stage("adapt") / "export", model)
    (model / "dlm.json").write_text(json.dumps({"kind": "autoregressive", "texts": True}))
    write_sums(model)
    words = ("--temperature", "1.5", "--set", "generation.max_new_tokens=6")
    outputs: list[Path] = []
    for number, extra in (("5", ()), ("3", ()), ("5", ("--set", "generation.batch_tokens=8"))):
        outputs.append(tmp_path / f"{len(outputs)}.jsonl")
        done = call("generate", model, "--num-samples", number, *words, *extra, "--output",
                    outputs[-1])  # fmt: skip
        assert done.code == 0, done.err
    five, three, alone = (
        [json.loads(line)["text"] for line in output.read_text(encoding="utf-8").splitlines()]
        for output in outputs
    )
    assert len(five) == 5 and len(set(five)) > 1
    assert five[:3] == three and alone == five


def test_a_diffusion_model_without_a_prompt_is_told_how_to_say_the_length(
    call: Caller, trained: TrainedRun
) -> None:
    outcome = call("generate", trained.stage("length"), "--num-samples", "3")
    assert outcome.code == 2
    assert "--num-samples without a prompt" in outcome.err and "--infill '[MASK:20]'" in outcome.err
    words = ("--infill", "[MASK:4]", "--num-samples", "3", "--sampler", "mdlm", "--steps", "2")
    drawn = call("generate", trained.stage("adapt"), *words)
    assert drawn.code == 0 and len(drawn.out.splitlines()) == 3


def test_prompts_come_line_by_line_from_standard_input(
    trained: TrainedRun, call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ["two hundred", "seven"]
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    written = call("generate", trained.directory, *words).out
    for text in ("two hundred\nseven\n", "two hundred\nseven"):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert call("generate", trained.directory, "--input", "-").out == written
    for text, said in (
        ("", "standard input is empty"), ("seven\n \nsix\n", "line 2 of standard input is empty"),
    ):  # fmt: skip
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        outcome = call("generate", trained.directory, "--input", "-")
        assert outcome.code == 2 and said in outcome.err


def test_texts_without_prompts_are_adapted_and_nothing_is_asked_of_them(
    begun: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    recipe = yaml.safe_load(begun.recipe.read_text(encoding="utf-8"))
    recipe["stages"]["adapt"]["data"] = {
        "task": "text",
        "train": [{"generator": "number_text", "count": 100}],
        "validation": [{"generator": "number_text", "count": 10}],
    }
    place = tmp_path / "texts.yaml"
    place.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    words = ("stages.adapt.train.steps=2", "stages.adapt.validation.every_n_steps=1",
             "stages.adapt.validation.metric=null")  # fmt: skip
    done = call("run", place, "--run-dir", begun.directory, "--only", "adapt", *words)
    assert done.code == 0, done.err
    manifest = json.loads((begun.stage("adapt") / "manifest.json").read_text())
    assert manifest["metrics"]["validation_loss"] > 0
    drawn = call("generate", begun.stage("adapt"), "--infill", "[MASK:5]", "--num-samples", "2",
                 "--sampler", "mdlm")  # fmt: skip
    assert drawn.code == 0 and len(drawn.out.splitlines()) == 2
