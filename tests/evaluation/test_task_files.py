"""Task files: what they say is read, and what they say wrongly is named."""

import json
import re
from pathlib import Path

import pytest

from dlm.data.sources import Place
from dlm.data.tasks.choices import multiple_choice
from dlm.errors import UserError
from dlm.evaluation.task_rows import TaskRows, read_task
from dlm.evaluation.tasks import Task, load_task, load_tasks, shipped_tasks

GOOD = {"version": 1, "source": {"path": "rows.jsonl"}, "metrics": ["bleu"]}

TEXTS = GOOD | {"kind": "perplexity", "metrics": ["perplexity"]}
QUESTIONS = GOOD | {
    "kind": "multiple_choice", "metrics": ["accuracy"], "prompt": "{question}",
    "choices": "options", "answer": "key",
}  # fmt: skip


def write(path: Path, values: object) -> str:
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", shipped_tasks())
def test_every_shipped_task_has_a_description_and_a_version(name: str) -> None:
    task = load_task(name)
    assert task.name == name and task.description and task.version >= 1 and task.metrics


def read(name: str, root: Path | None = None, limit: int | None = None) -> TaskRows:
    return read_task(load_task(name), root=None if root is None else str(root), limit=limit)


def prompts_of(task: Task, root: Path) -> list[str]:
    return read_task(task, root=str(root), limit=None).prompts


GENERATED = [name for name in shipped_tasks() if "generator" in load_task(name).source]


@pytest.mark.parametrize("name", GENERATED)
def test_every_generated_task_reads_the_same_rows_each_time(name: str) -> None:
    rows = read(name, limit=5)
    assert len(rows.prompts) == len(rows.references) == 5
    assert read(name, limit=5) == rows


def test_a_task_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    values = GOOD | {"prompt": "Say {word}", "response": "{word}", "version": 2}
    task = load_task(write(tmp_path / "words.yaml", values))
    (tmp_path / "rows.jsonl").write_text('{"word": "one"}\n\n{"word": "two"}\n')
    assert (task.name, task.version) == ("words", 2)
    rows = read(str(tmp_path / "words.yaml"), tmp_path)
    assert (rows.prompts, rows.references) == (["Say one", "Say two"], ["one", "two"])
    assert read(str(tmp_path / "words.yaml"), tmp_path, limit=1).prompts == ["Say one"]


def test_the_smaller_of_both_limits_counts(tmp_path: Path) -> None:
    values = GOOD | {"source": {"path": "rows.jsonl", "limit": 2}}
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "tgt": "b"}\n' * 5)
    name = write(tmp_path / "words.yaml", values)
    assert [len(read(name, tmp_path, limit).prompts) for limit in (None, 1, 4)] == [2, 1, 2]


def test_a_task_of_parallel_files_in_another_encoding_is_read(tmp_path: Path) -> None:
    files = {"src": "test.de", "tgt": "test.en"}
    (tmp_path / "test.de").write_bytes("Grüße\n".encode("cp1252"))
    (tmp_path / "test.en").write_bytes(b"Regards\n")
    source = {"parallel": files, "encoding": "cp1252"}
    rows = read(write(tmp_path / "words.yaml", GOOD | {"source": source}), tmp_path)
    assert (rows.prompts, rows.references) == (["Grüße"], ["Regards"])


WRONG: dict[str, tuple[object, str]] = {
    "a list": ([], "is not a task: it needs version, source and metrics"),
    "nothing": ("", "is not a task"),
    "broken YAML": ("version: [1\nsource", "not valid YAML"),
    "an unknown key": (GOOD | {"metric": "bleu"}, "unknown key 'metric'; did you mean 'metrics'?"),
    "no version": ({**GOOD, "version": None}, "'version' is missing"),
    "one metric as text": (GOOD | {"metrics": "bleu"}, "metrics is text, where it must be a list"),
    "an unknown metric": (GOOD | {"metrics": ["blue"]}, "unknown metric 'blue'; did you mean"),
    "a source as text": (GOOD | {"source": "rows.jsonl"}, "source is text, where it must be"),
    "a source of nowhere": (
        GOOD | {"source": {"split": "test"}},
        "needs one of path, parallel, hub and generator",
    ),
    "a field that YAML reads as false": (
        GOOD | {"source": {"path": "a", "fields": {"src": False}}},
        "source.fields.src = False must be text: YAML reads no, off and false as false: quote it",
    ),
    "a field that is a number": (
        GOOD | {"source": {"path": "a", "fields": {"src": 0}}},
        "source.fields.src = 0 must be text: YAML reads what is written there as a number",
    ),
    "a key that YAML reads as true": (
        "version: 1\nmetrics: [chrf]\nsource: {path: a, fields: {on: de}}",
        "the key True of source.fields = True must be text: YAML reads yes, on and true",
    ),
    "a path that is a number": (
        GOOD | {"source": {"path": 2024}},
        "source.path = 2024 must be text",
    ),
    "a kept value that is a date": (
        "version: 1\nmetrics: [chrf]\nsource: {path: a, keep_only: {day: [2024-01-01]}}",
        "source.keep_only.day[0] = datetime.date(2024, 1, 1) must be text: YAML reads what is "
        "written there as a date",
    ),
    "a column that YAML reads as false": (
        GOOD | {"source": {"path": "a", "columns": [False, "en"]}},
        "source.columns[0] = False must be text",
    ),
    "a description that is a number": (
        GOOD | {"description": 2024},
        "description is a number, where it must be text (YAML reads",
    ),
    "two places for files": (
        GOOD | {"source": {"path": "a", "parallel": {"src": "a", "tgt": "b"}}},
        "source.path and source.parallel exclude each other",
    ),
    "an unknown format": (
        GOOD | {"source": {"path": "a", "format": "cvs"}},
        "source.format = 'cvs' must be one of txt, jsonl, json, csv, tsv, tmx, parquet; did you",
    ),
    "an unknown encoding": (
        GOOD | {"source": {"path": "a", "encoding": "ansi8"}},
        "source.encoding = 'ansi8': Python knows no such encoding of text",
    ),
    "a delimiter of two": (
        GOOD | {"source": {"path": "a", "delimiter": "||"}},
        "source.delimiter = '||' must be one character",
    ),
    "an unknown source key": (
        GOOD | {"source": {"path": "a", "feilds": {}}},
        "unknown key 'source.feilds'; did you mean 'fields'?",
    ),
    "a generator without a count": (
        GOOD | {"source": {"generator": "number_pairs"}},
        "source.count is missing",
    ),
    "a limit of 0": (GOOD | {"source": {"path": "a", "limit": 0}}, "source.limit = 0 must be"),
    "an unknown kind": (GOOD | {"kind": "perplexty"}, "did you mean 'perplexity'?"),
    "perplexity of generated texts": (
        GOOD | {"metrics": ["perplexity"]},
        "metric 'perplexity' is of tasks of kind perplexity, not of generation",
    ),
    "BLEU of a likelihood": (TEXTS | {"metrics": ["bleu"]}, "is of tasks of kind generation, not"),
    "samples of generated texts": (
        GOOD | {"likelihood": {"samples": 4}},
        "'likelihood' is read by kind multiple_choice and perplexity, not by generation",
    ),
    "one sample": (TEXTS | {"likelihood": {"samples": 1}}, "samples = 1 gives no standard error"),
    "an unknown estimator": (
        TEXTS | {"likelihood": {"estimator": "elbo"}},
        "likelihood.estimator = 'elbo' must be one of exactly_l, bernoulli, chain_rule",
    ),
    "a mistyped likelihood": (
        TEXTS | {"likelihood": {"sample": 4}},
        "unknown key 'likelihood.sample'; did you mean 'samples'?",
    ),
    "a prompt without a response": (TEXTS | {"prompt": "{a}"}, "give both, or neither for texts"),
    "a text and a prompt": (
        TEXTS | {"prompt": "{a}", "response": "{b}", "text": "{c}"},
        "'text' and 'prompt' exclude each other",
    ),
    "questions without answers": (
        {k: v for k, v in QUESTIONS.items() if k != "answer"},
        "'answer' is missing",
    ),
    "columns as text": (
        GOOD | {"source": {"path": "a.tsv", "columns": "question"}},
        "source.columns is text, where it must be a list",
    ),
    "an unknown shape": (GOOD | {"task": "maths"}, "task = 'maths' is none of"),
    "few-shot as a number": (GOOD | {"few_shot": 3}, "few_shot is a number, where it must be"),
    "fewer than none": (GOOD | {"few_shot": {"count": -1}}, "few_shot.count = -1 must be"),
    "SARI of an instruction": (
        GOOD | {"metrics": ["sari"], "prompt": "Split: {src}"},
        "so the prompt must be a field alone, such as \"{src}\", not 'Split: {src}'",
    ),
    "one choice for every row": (
        QUESTIONS | {"choices": ["A"]},
        "choices must be the name of a field, or a list of at least two texts",
    ),
    "a language as a list": (
        GOOD | {"language": ["ja"]},
        "language = ['ja'] is no language that CLDR knows",
    ),
    "a cluster that is a list": (
        GOOD | {"cluster": ["src"]},
        "cluster must be the name of a field",
    ),
    "a cluster's pattern without a group": (
        GOOD | {"cluster": {"field": "src", "pattern": "a.*b"}},
        "cluster.pattern = 'a.*b' must have one group, not 0",
    ),
    "a cluster's pattern that is none": (
        GOOD | {"cluster": {"field": "src", "pattern": "("}},
        "cluster.pattern = '(' is no regular expression: missing )",
    ),
    "clusters of texts": (TEXTS | {"cluster": "text"}, "'cluster' is read by kind"),
    "an unknown few-shot key": (
        GOOD | {"few_shot": {"count": 1, "seperator": ""}},
        "unknown key 'few_shot.seperator'; did you mean 'separator'?",
    ),
    "few-shot from nowhere": (
        GOOD | {"few_shot": {"count": 1, "source": {"pth": "a.jsonl"}}},
        "few_shot: unknown key 'source.pth'; did you mean 'path'?",
    ),
    "few-shot without a count": (GOOD | {"few_shot": {"joiner": ""}}, "few_shot.count is missing"),
    "variants of ones own": (GOOD | {"variants": {"a": ["b"]}}, "read in shipped tasks only"),
    "a language that YAML reads as false": (
        GOOD | {"language": False},
        "language = False is no language that CLDR knows",
    ),
    "a language of questions": (QUESTIONS | {"language": "de"}, "'language' is read by kind"),
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
    name = write(tmp_path / "words.yaml", GOOD)
    with pytest.raises(UserError, match=r"rows\.jsonl, line 3: field 'tgt' is missing"):
        read(name, tmp_path)


def test_an_unknown_task_brings_the_nearest_and_the_list() -> None:
    with pytest.raises(UserError) as refused:
        load_task("multi30k_de_eng")
    assert "no task 'multi30k_de_eng'; did you mean 'multi30k_de_en'?" in str(refused.value)
    assert "Shipped tasks: " in str(refused.value)


def test_two_tasks_of_one_name_are_refused_as_their_results_would_be_one(tmp_path: Path) -> None:
    mine = write(tmp_path / "numbers_en_de.yaml", GOOD)
    with pytest.raises(UserError, match="share the name numbers_en_de"):
        load_tasks(["numbers_en_de", mine])


def rows_of(folder: Path, task: object, *rows: object) -> TaskRows:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    return read(write(folder / "mine.yaml", task), folder)


def test_the_right_answer_is_an_index_or_the_text_of_a_choice(tmp_path: Path) -> None:
    question = {"question": "2 + 2", "options": ["3", "4", "5"]}
    rows = rows_of(tmp_path, QUESTIONS, question | {"key": 1}, question | {"key": "5"})
    assert rows.prompts == ["2 + 2", "2 + 2"]
    assert rows.choices == [["3", "4", "5"]] * 2
    assert (rows.right, rows.references) == ([1, 2], ["4", "5"])


@pytest.mark.parametrize("answer", [1, "3", "b", "4", "0", "2", "7", True])
@pytest.mark.parametrize("labels", [None, ["1", "2", "3"], ["x", "4", "z"]])
def test_an_answer_is_the_same_choice_in_training_and_in_evaluation(
    answer: object, labels: list[str] | None, tmp_path: Path
) -> None:
    texts = ["3", "4", "5"]
    row = {"question": "2 + 2", "answer": answer, "key": answer}
    row["options"] = row["choices"] = {"text": texts, "label": labels} if labels else texts
    try:
        (fields,) = multiple_choice(row, Place("rows", 1))
    except UserError as error:
        with pytest.raises(UserError, match=re.escape(str(error).partition(" = ")[2])):
            rows_of(tmp_path, QUESTIONS, row)
    else:
        assert rows_of(tmp_path, QUESTIONS, row).references == [fields["answer"]]


WRONG_ROWS: dict[str, tuple[dict[str, object], str]] = {
    "no answer": ({"options": ["a", "b"]}, "line 1: field 'key' is missing"),
    "an index too many": ({"options": ["a", "b"], "key": 2}, "from 0 to 1, its letter, or the"),
    "a truth value": ({"options": ["a", "b"], "key": True}, "'key' = True names no choice"),
    "another text": ({"options": ["a", "b"], "key": "c"}, "field 'key' = 'c' names no choice"),
    "choices as text": ({"options": "ab", "key": 0}, "field 'options' must be a list of texts"),
    "an empty choice": ({"options": ["a", " "], "key": 0}, "must be a list of texts, none empty"),
    "one choice": ({"options": ["a"], "key": 0}, "at least two choices, all different"),
    "one choice twice": ({"options": ["a", "a "], "key": 0}, "at least two choices, all different"),
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_a_question_that_cannot_be_marked_is_named(name: str, tmp_path: Path) -> None:
    row, words = WRONG_ROWS[name]
    with pytest.raises(UserError) as refused:
        rows_of(tmp_path, QUESTIONS, {"question": "?", **row})
    assert "rows.jsonl, line 1" in str(refused.value)
    assert words in str(refused.value)


def test_blank_texts_are_left_out_as_blank_lines_are_and_do_not_count(tmp_path: Path) -> None:
    task = TEXTS | {"source": {"path": "rows.jsonl", "limit": 2}}
    rows = rows_of(tmp_path, task, {"text": ""}, {"text": "one"}, {"text": " "}, {"text": "two"})
    assert (rows.prompts, rows.references) == (["", ""], ["one", "two"])
    with pytest.raises(UserError, match="has only blank rows"):
        rows_of(tmp_path, task, {"text": ""})


def test_a_perplexity_task_may_have_prompts(tmp_path: Path) -> None:
    task = TEXTS | {"prompt": "Say {src}", "response": "{tgt}"}
    rows = rows_of(tmp_path, task, {"src": "one", "tgt": "eins"})
    assert (rows.prompts, rows.references) == (["Say one"], ["eins"])


def test_settings_of_a_likelihood_are_changed_where_they_are_given() -> None:
    task = load_task("perplexity_counting")
    changed = task.with_likelihood({"samples": 7, "estimator": None})
    assert changed.likelihood == {"estimator": "exactly_l", "samples": 7, "seed": 0}
    with pytest.raises(UserError, match=r"task perplexity_counting: likelihood\.samples = 1"):
        task.with_likelihood({"samples": 1})
    with pytest.raises(UserError, match="samples would be ignored: chain_rule draws nothing"):
        task.with_likelihood({"samples": 4, "estimator": "chain_rule"})
    generating = load_task("numbers_en_de")
    assert generating.with_likelihood({"samples": 7}) == generating
    identities = [str(each.identity()) for each in (task, changed)]
    assert identities[0] != identities[1]


def test_a_table_without_a_header_and_a_folder_are_tasks_too(tmp_path: Path) -> None:
    source = {"path": "tables", "columns": ["question", "answer"], "unquoted": True}
    values = GOOD | {"source": source, "prompt": "{question}", "response": "{answer}"}
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.tsv").write_text('"One" more?\t1\n')
    (tmp_path / "tables" / "b.tsv").write_text("Why?\t2\n")
    rows = read(write(tmp_path / "words.yaml", values), tmp_path)
    assert (rows.prompts, rows.references) == (['"One" more?', "Why?"], ["1", "2"])


def test_a_task_reads_rows_in_the_shape_it_names(tmp_path: Path) -> None:
    values = {**GOOD, "task": "math", "metrics": ["number_match"]}
    (tmp_path / "rows.jsonl").write_text(
        '{"Body": "Two", "Question": "How many?", "Answer": 2.0}\n'
    )
    rows = read(write(tmp_path / "maths.yaml", values), tmp_path)
    assert (rows.prompts, rows.references) == (["Question: Two, How many?\n\nAnswer:"], ["2"])


def test_demonstrations_come_from_the_named_source_or_the_rows_themselves(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "tgt": "b"}\n{"src": "c", "tgt": "d"}\n')
    (tmp_path / "shots.jsonl").write_text('{"src": "x", "tgt": "y"}\n{"src": "v", "tgt": "w"}\n')
    shots = {"count": 1, "separator": " / ", "joiner": ">", "source": {"path": "shots.jsonl"}}
    task = load_task(write(tmp_path / "words.yaml", GOOD | {"few_shot": shots}))
    for prompt, asked in zip(prompts_of(task, tmp_path), "ac", strict=True):
        assert prompt in (f"x>y / {asked}", f"v>w / {asked}")
    assert prompts_of(task.with_few_shot(0), tmp_path) == ["a", "c"]
    own = load_task(write(tmp_path / "words.yaml", GOOD)).with_few_shot(1)
    assert prompts_of(own, tmp_path) == ["c\nd\n\na", "a\nb\n\nc"]
    identities = [each.examples(str(tmp_path)).identity() for each in (task, own)]
    assert identities[0] != identities[1]


def test_one_file_holds_the_variants_of_a_task() -> None:
    assert {f"mgsm_{language}" for language in ("bn", "de", "zh")} <= set(shipped_tasks())
    task = load_task("mgsm_de")
    assert task.source["path"] == "mgsm/mgsm_de.tsv" and task.source["hub_config"] == "de"
    assert "in de" in task.description


def test_choices_may_be_the_same_for_every_row(tmp_path: Path) -> None:
    task = {**QUESTIONS, "choices": ["A", "B", "C"]}
    rows = rows_of(tmp_path, task, {"question": "one?", "key": "B"}, {"question": "two?", "key": 2})
    assert (rows.choices, rows.right) == ([["A", "B", "C"]] * 2, [1, 2])


def test_demonstrations_of_a_count_of_0_wait_to_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "tgt": "b"}\n')
    (tmp_path / "shots.jsonl").write_text('{"src": "x", "tgt": "y"}\n{"src": "v", "tgt": "w"}\n')
    shots = {"count": 0, "source": {"path": "shots.jsonl"}}
    task = load_task(write(tmp_path / "words.yaml", GOOD | {"few_shot": shots}))
    assert (task.shots, prompts_of(task, tmp_path)) == (0, ["a"])
    (shown,) = prompts_of(task.with_few_shot(1), tmp_path)
    assert shown in ("x\ny\n\na", "v\nw\n\na")


def test_all_summaries_and_answers_of_a_row_are_references(tmp_path: Path) -> None:
    summaries = GOOD | {"task": "summarization", "metrics": ["rouge_l"]}
    rows = rows_of(
        tmp_path, summaries, {"document": "long", "summary": ["s", "t", "s", " ", "u"]},
        {"document": "long", "summary": "v"},
    )  # fmt: skip
    assert (rows.references, rows.others) == (["s", "v"], [("t", "s", "u"), ()])
    questions = GOOD | {"task": "question_answering", "metrics": ["token_f1"]}
    row = {"context": "c", "question": "q", "answers": {"text": ["1", "one"]}}
    rows = rows_of(tmp_path, questions, row)
    assert (rows.references, rows.others) == (["1"], [("one",)])


@pytest.mark.parametrize(
    ("task", "prompt", "response"),
    [("simplification", "src", "tgt"), ("translation", "src", "tgt"), ("paraphrase", "src", "tgt"),
     ("headline", "document", "headline"), ("instruction", "inputs", "targets")],
)  # fmt: skip
def test_a_list_of_targets_is_a_list_of_references(
    tmp_path: Path, task: str, prompt: str, response: str
) -> None:
    """As ASSET and TurkCorpus have them: equal ones stay, each is a vote."""
    own = {**GOOD, "task": task, "metrics": ["bleu"]}
    rows = rows_of(
        tmp_path, own, {prompt: "long", response: ["s", "t", "s"]}, {prompt: "more", response: "v"}
    )
    assert (rows.references, rows.others) == (["s", "v"], [("t", "s"), ()])


def test_questions_about_one_paragraph_are_one_cluster(tmp_path: Path) -> None:
    own = GOOD | {"task": "question_answering", "metrics": ["token_f1"]}
    row = {"question": "q", "answer": "a"}
    shared = [row | {"context": text} for text in ("x", "y", "x", "z")]
    rows = rows_of(tmp_path, own, *shared)
    assert rows.clusters == [0, 1, 0, 3]
    assert rows.without({1}).clusters == [0, 0, 3]


def test_a_task_says_what_its_rows_share(tmp_path: Path) -> None:
    pattern = {"field": "src", "pattern": "text: (.*?) Q:"}
    texts = ["text: x Q: 1", "text: y Q: 2 text: x Q: 3", "text: y Q: 4"]
    pairs = [{"src": text, "tgt": "a"} for text in texts]
    assert rows_of(tmp_path, GOOD | {"cluster": pattern}, *pairs).clusters == [0, 0, 2]
    assert rows_of(tmp_path, GOOD, *pairs).clusters == []
    with pytest.raises(
        UserError, match=r"rows.jsonl, line 2: the pattern of `cluster` fits nowhere"
    ):
        rows_of(tmp_path, GOOD | {"cluster": pattern}, pairs[0], {"src": "none", "tgt": "a"})
    asked = QUESTIONS | {"cluster": "id"}
    questions = [
        {"question": "q", "options": ["a", "b"], "key": 0, "id": number} for number in (7, 8, 7)
    ]
    assert rows_of(tmp_path, asked, *questions).clusters == [0, 1, 0]


def test_xquad_is_read_as_its_public_rows_are(tmp_path: Path) -> None:
    """The fields of google/xquad, in a local file of JSON lines."""
    (tmp_path / "xquad").mkdir()
    row = {
        "id": "56beb4343aeaaa14008c925b", "context": "Die Panthers gaben 308 Punkte ab.",
        "question": "Wie viele Punkte?", "answers": {"text": ["308"], "answer_start": [19]},
    }  # fmt: skip
    write(tmp_path / "xquad" / "xquad.de.jsonl", row)
    rows = read("xquad_de", tmp_path)
    asked = "Die Panthers gaben 308 Punkte ab.\n\nQuestion: Wie viele Punkte?\n\nAnswer:"
    assert (rows.prompts, rows.references) == ([asked], ["308"])
    source = load_task("xquad_de").locate(None)
    assert (source.hub, source.hub_config, source.split) == (
        "google/xquad", "xquad.de", "validation",
    )  # fmt: skip


def test_flores_is_read_from_two_files_pasted_together(tmp_path: Path) -> None:
    folder = tmp_path / "flores" / "devtest"
    folder.mkdir(parents=True)
    lines = '"Wir haben", sagte er.\t"We have," he said.\nEin "Halb\tA "half\n'
    (folder / "deu_Latn-eng_Latn.tsv").write_text(lines)
    (folder / "eng_Latn-deu_Latn.tsv").write_text("One.\tEins.\n")
    rows = read("flores_deu_Latn_en", tmp_path)
    assert rows.prompts == ['"Wir haben", sagte er.', 'Ein "Halb']
    assert rows.references == ['"We have," he said.', 'A "half']
    assert read("flores_en_deu_Latn", tmp_path).references == ["Eins."]
    source = load_task("flores_en_deu_Latn").locate(None)
    assert (source.hub, source.hub_config) == ("facebook/flores", "eng_Latn-deu_Latn")
    assert source.fields == {"src": "sentence_eng_Latn", "tgt": "sentence_deu_Latn"}


def test_rows_of_a_hub_data_set_are_read_in_the_shape_of_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real loader of hub data sets, on one that was saved here."""
    import datasets

    made = datasets.Dataset.from_list([{"sentence_eng_Latn": "One.", "sentence_deu_Latn": "Eins."}])
    asked: list[tuple[object, object]] = []

    def load(name: str, config: str | None = None, **options: object) -> object:
        asked.append((name, config))
        return made

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = read("flores_en_deu_Latn")
    assert (rows.prompts, rows.references) == (["One."], ["Eins."])
    assert asked[0] == ("facebook/flores", "eng_Latn-deu_Latn")


def test_a_source_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no rows"):
        read(write(tmp_path / "words.yaml", GOOD), tmp_path)


def test_a_task_can_keep_the_rows_that_have_certain_values(tmp_path: Path) -> None:
    rows = [{"set": "a" if n % 3 else "b", "text": f"row {n}", "label": "xy"[n % 2]}
            for n in range(9)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = tmp_path / "kept.yaml"

    def read(values: str, limit: int | None = None) -> list[str]:
        task.write_text(
            "version: 1\nkind: multiple_choice\n"
            f"source: {{path: rows.jsonl, keep_only: {values}}}\n"
            'prompt: "{text}"\nchoices: [x, y]\nanswer: label\nmetrics: [accuracy]\n'
        )
        return read_task(load_task(str(task)), root=str(tmp_path), limit=limit).prompts

    assert read("{set: [b]}") == ["row 0", "row 3", "row 6"]
    assert read("{set: [b], label: [x]}") == ["row 0", "row 6"]
    assert read("{set: [b]}", limit=2) == ["row 0", "row 3"]
    with pytest.raises(UserError, match=r"every row is left out by source\.keep_only of task kept"):
        read("{set: [c]}")
    with pytest.raises(UserError, match="'sett'"):
        read("{sett: [b]}")
    with pytest.raises(UserError, match="keep_only must map fields to lists"):
        read("{set: b}")
