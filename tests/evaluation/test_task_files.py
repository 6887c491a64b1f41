"""Task files: what they say is read, and what they say wrongly is named."""

import json
from pathlib import Path

import pytest

from dlm.errors import UserError
from dlm.evaluation.tasks import load_task, load_tasks, shipped_tasks

GOOD = {"version": 1, "source": {"path": "rows.jsonl"}, "metrics": ["bleu"]}


def write(path: Path, values: object) -> str:
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", shipped_tasks())
def test_every_shipped_task_has_a_description_and_a_version(name: str) -> None:
    task = load_task(name)
    assert task.name == name and task.description and task.version >= 1 and task.metrics


GENERATED = [name for name in shipped_tasks() if "generator" in load_task(name).source]


@pytest.mark.parametrize("name", GENERATED)
def test_every_generated_task_reads_the_same_rows_each_time(name: str) -> None:
    prompts, references = load_task(name).read(None, limit=5)
    assert len(prompts) == len(references) == 5
    assert load_task(name).read(None, limit=5) == (prompts, references)


def test_a_task_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    values = GOOD | {"prompt": "Say {word}", "response": "{word}", "version": 2}
    task = load_task(write(tmp_path / "words.yaml", values))
    (tmp_path / "rows.jsonl").write_text('{"word": "one"}\n\n{"word": "two"}\n')
    assert (task.name, task.version) == ("words", 2)
    assert task.read(str(tmp_path)) == (["Say one", "Say two"], ["one", "two"])
    assert task.read(str(tmp_path), limit=1) == (["Say one"], ["one"])


def test_the_smaller_of_both_limits_counts(tmp_path: Path) -> None:
    values = GOOD | {"source": {"path": "rows.jsonl", "limit": 2}}
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "tgt": "b"}\n' * 5)
    task = load_task(write(tmp_path / "words.yaml", values))
    assert [len(task.read(str(tmp_path), limit)[0]) for limit in (None, 1, 4)] == [2, 1, 2]


WRONG: dict[str, tuple[object, str]] = {
    "a list": ([], "is not a task: it needs version, source and metrics"),
    "nothing": ("", "is not a task"),
    "broken YAML": ("version: [1\nsource", "not valid YAML"),
    "an unknown key": (GOOD | {"metric": "bleu"}, "unknown key 'metric'; did you mean 'metrics'?"),
    "no version": ({**GOOD, "version": None}, "'version' is missing"),
    "one metric as text": (GOOD | {"metrics": "bleu"}, "metrics is text, where it must be a list"),
    "an unknown metric": (GOOD | {"metrics": ["blue"]}, "unknown metric 'blue'; did you mean"),
    "a source as text": (GOOD | {"source": "rows.jsonl"}, "source is text, where it must be"),
    "a source of nowhere": (GOOD | {"source": {"split": "test"}}, "needs one of path, hub and gen"),
    "an unknown source key": (
        GOOD | {"source": {"path": "a", "feilds": {}}},
        "unknown key 'source.feilds'; did you mean 'fields'?",
    ),
    "a generator without a count": (
        GOOD | {"source": {"generator": "number_pairs"}},
        "source.count is missing",
    ),
    "a limit of 0": (GOOD | {"source": {"path": "a", "limit": 0}}, "source.limit = 0 must be"),
    "an unknown shape": (GOOD | {"task": "maths"}, "task = 'maths' is none of"),
    "few-shot as a number": (GOOD | {"few_shot": 3}, "few_shot is a number, where it must be"),
    "no demonstrations": (GOOD | {"few_shot": {"count": 0}}, "few_shot.count = 0 must be"),
    "an unknown few-shot key": (
        GOOD | {"few_shot": {"count": 1, "seperator": ""}},
        "unknown key 'few_shot.seperator'; did you mean 'separator'?",
    ),
    "few-shot without a count": (GOOD | {"few_shot": {"joiner": ""}}, "few_shot.count is missing"),
    "variants of ones own": (GOOD | {"variants": {"a": ["b"]}}, "read in shipped tasks only"),
    "a prompt of numbers": (GOOD | {"prompt": 5}, "prompt is a number, where it must be text"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_task_file_is_named_with_what_is_wrong(name: str, tmp_path: Path) -> None:
    values, words = WRONG[name]
    path = write(tmp_path / "words.yaml", values)
    with pytest.raises(UserError) as refused:
        load_task(path)
    assert path in str(refused.value)
    assert words in str(refused.value)


def test_a_row_that_does_not_fit_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "tgt": "b"}\n\n{"src": "a"}\n')
    task = load_task(write(tmp_path / "words.yaml", GOOD))
    with pytest.raises(UserError, match=r"rows\.jsonl, line 3: field 'tgt' is missing"):
        task.read(str(tmp_path))


def test_an_unknown_task_brings_the_nearest_and_the_list() -> None:
    with pytest.raises(UserError) as refused:
        load_task("multi30k_de_eng")
    assert "no task 'multi30k_de_eng'; did you mean 'multi30k_de_en'?" in str(refused.value)
    assert "Shipped tasks: " in str(refused.value)


def test_two_tasks_of_one_name_are_refused_as_their_results_would_be_one(tmp_path: Path) -> None:
    mine = write(tmp_path / "numbers_en_de.yaml", GOOD)
    with pytest.raises(UserError, match="share the name numbers_en_de"):
        load_tasks(["numbers_en_de", mine])


def test_a_task_reads_rows_in_the_shape_it_names(tmp_path: Path) -> None:
    values = {**GOOD, "task": "math", "metrics": ["number_match"]}
    (tmp_path / "rows.jsonl").write_text(
        '{"Body": "Two", "Question": "How many?", "Answer": 2.0}\n'
    )
    task = load_task(write(tmp_path / "maths.yaml", values))
    assert task.read(str(tmp_path)) == (["Question: Two, How many?\n\nAnswer:"], ["2"])


def test_demonstrations_come_from_the_named_source_or_the_rows_themselves(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "tgt": "b"}\n{"src": "c", "tgt": "d"}\n')
    (tmp_path / "shots.jsonl").write_text('{"src": "x", "tgt": "y"}\n{"src": "v", "tgt": "w"}\n')
    shots = {"count": 1, "separator": " / ", "joiner": ">", "source": {"path": "shots.jsonl"}}
    task = load_task(write(tmp_path / "words.yaml", GOOD | {"few_shot": shots}))
    for prompt, asked in zip(task.read(str(tmp_path))[0], "ac", strict=True):
        assert prompt in (f"x>y / {asked}", f"v>w / {asked}")
    assert task.with_few_shot(0).read(str(tmp_path))[0] == ["a", "c"]
    own = load_task(write(tmp_path / "words.yaml", GOOD)).with_few_shot(1)
    assert own.read(str(tmp_path)) == (["c\nd\n\na", "a\nb\n\nc"], ["b", "d"])
    identities = [each.examples(str(tmp_path)).identity() for each in (task, own)]
    assert identities[0] != identities[1]


def test_one_file_holds_the_variants_of_a_task() -> None:
    assert {f"mgsm_{language}" for language in ("bn", "de", "zh")} <= set(shipped_tasks())
    task = load_task("mgsm_de")
    assert task.source["path"] == "mgsm/mgsm_de.tsv" and task.source["hub_config"] == "de"
    assert "in de" in task.description
