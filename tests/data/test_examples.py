"""From sources to examples: what is left out, which template, which demonstrations."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlm.data.examples import ExampleRecipe, TaskSource
from dlm.data.few_shot import FewShot
from dlm.data.overlap import OverlapIndex
from dlm.data.prompts import Example, Template
from dlm.data.sources import BadRows, Holdout, Place, Source
from dlm.errors import UserError

PLAIN = Template("{src}", "{tgt}")
ASKED = Template("Translate: {src}", "{tgt}")
ROWS = [{"src": f"s{n}", "tgt": f"t{n}", "kind": "ab"[n % 2]} for n in range(20)]


def source(path: Path, rows: list[dict[str, Any]], **changes: Any) -> TaskSource:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = TaskSource(path.stem, Source(split="", path=path), "translation", (PLAIN,))
    return replace(made, **changes)


def texts(recipe: ExampleRecipe, counts: Counter[str] | None = None) -> list[tuple[str, str]]:
    counts = Counter() if counts is None else counts
    return [(e.prompt, e.response) for _, e in recipe.stream(counts)]


def test_sources_come_one_after_the_other_with_their_numbers(tmp_path: Path) -> None:
    parts = (source(tmp_path / "a.jsonl", ROWS[:2]), source(tmp_path / "b.jsonl", ROWS[2:5]))
    numbers = [number for number, _ in ExampleRecipe(parts).stream(Counter())]
    assert numbers == [0, 0, 1, 1, 1]


def test_held_out_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    held = source(tmp_path / "a.jsonl", ROWS, leave_out={"kind": ("a",)})
    assert [p for p, _ in texts(ExampleRecipe((held,)), counts)] == [
        f"s{n}" for n in range(1, 20, 2)
    ]
    assert counts == {"left_out_rows": 10}
    kept = replace(held, leave_out={}, keep_only={"kind": ("a",)})
    assert [p for p, _ in texts(ExampleRecipe((kept,)))] == [f"s{n}" for n in range(0, 20, 2)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leave_out": {"kind": ("c",)}}, "no row has 'c' in the field 'kind' (there are a, b)"),
        ({"keep_only": {"knd": ("a",)}}, "no field 'knd' to choose rows by"),
        ({"leave_out": {"kind": ("a", "b")}}, "every row is left out"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as refused:
        texts(ExampleRecipe((source(tmp_path / "a.jsonl", ROWS, **changes),)))
    assert words in str(refused.value)


def test_a_template_is_drawn_by_the_seed_and_the_rows_number(tmp_path: Path) -> None:
    part = source(tmp_path / "a.jsonl", ROWS, templates=(PLAIN, ASKED))
    first, again, other = (texts(ExampleRecipe((part,), seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert {prompt.startswith("Translate: ") for prompt, _ in first} == {True, False}
    shorter = replace(part, source=replace(part.source, limit=7))
    assert texts(ExampleRecipe((shorter,))) == first[:7]


def test_duplicates_are_left_out_over_all_sources_and_counted(tmp_path: Path) -> None:
    parts = (
        source(tmp_path / "a.jsonl", [*ROWS[:3], ROWS[0]]),
        source(tmp_path / "b.jsonl", [ROWS[2], ROWS[3], {"src": "s0", "tgt": "other"}]),
    )
    counts: Counter[str] = Counter()
    kept = texts(ExampleRecipe(parts, deduplicate=True), counts)
    assert [p for p, _ in kept] == ["s0", "s1", "s2", "s3", "s0"]
    assert counts == {"duplicate_rows": 2}
    assert len(texts(ExampleRecipe(parts))) == 7


def test_demonstrations_depend_on_the_rows_text_alone_and_are_never_the_row(
    tmp_path: Path,
) -> None:
    part = source(tmp_path / "a.jsonl", ROWS)
    turned = source(tmp_path / "b.jsonl", ROWS[::-1])
    few_shot = FewShot(count=3, separator=" | ", joiner=" -> ")
    made = [
        texts(ExampleRecipe((rows,), 0, few_shot, demonstrations_from=part))
        for rows in (part, turned)
    ]
    assert made[0] == made[1][::-1]
    for prompt, response in made[0]:
        *shown, asked = prompt.split(" | ")
        assert asked == response.replace("t", "s")
        assert len(set(shown)) == 3 and all(" -> t" in demonstration for demonstration in shown)
        assert f"{asked} -> {response}" not in shown
    assert len({prompt.split(" | ")[0] for prompt, _ in made[0]}) > 5
    other = ExampleRecipe((part,), 1, few_shot, demonstrations_from=part)
    assert texts(other) != made[0]


def test_too_few_demonstrations_are_refused(tmp_path: Path) -> None:
    part = source(tmp_path / "a.jsonl", [ROWS[0], ROWS[1], ROWS[1]])
    with pytest.raises(UserError, match="needs at least 3 rows with different prompts"):
        texts(ExampleRecipe((part,), 0, FewShot(2), part))


def test_all_that_changes_the_examples_changes_the_identity(tmp_path: Path) -> None:
    part = source(tmp_path / "a.jsonl", ROWS)
    recipe = ExampleRecipe((part,))
    others = [
        ExampleRecipe((part, part)),
        ExampleRecipe((replace(part, templates=(ASKED,)),)),
        ExampleRecipe((replace(part, leave_out={"kind": ("a",)}),)),
        ExampleRecipe((replace(part, keep_only={"kind": ("a",)}),)),
        ExampleRecipe((replace(part, task="paraphrase"),)),
        replace(recipe, seed=1),
        replace(recipe, deduplicate=True),
        replace(recipe, few_shot=FewShot(1), demonstrations_from=part),
    ]
    keys = [json.dumps(each.identity(), sort_keys=True) for each in (recipe, *others)]
    assert len(set(keys)) == len(keys)
    renamed = replace(part, name="other")
    assert ExampleRecipe((renamed,)).identity() == recipe.identity()


WORDS = "one two three four five six seven eight nine ten"


def overlap(training: list[tuple[str, str]], words: int = 4) -> OverlapIndex:
    index = OverlapIndex({"long": [("x y", "z"), (WORDS, "q")], "short": [("Zwei?", "two")]}, words)
    for number, pair in enumerate(training, start=1):
        index.read(Example(Place("train", number), *pair))
    return index


@pytest.mark.parametrize(
    ("pair", "found"),
    [
        (("say: One, two -- THREE four!", "x"), (1, 0)),
        (("x", "seven eight nine ten eleven"), (1, 0)),
        (("one two three", "four five six"), (0, 0)),  # three in a row only, in either text
        (("one two three 4 five six seven", "x"), (0, 0)),
        (("two one four three", "x"), (0, 0)),
        (("zwei", "Two."), (0, 1)),  # too short for n-grams: the whole example
        (("zwei", "three"), (0, 0)),
        (("X y!", "z"), (1, 0)),
    ],
)
def test_shared_words_in_a_row_are_found(pair: tuple[str, str], found: tuple[int, int]) -> None:
    metrics = overlap([pair]).metrics()
    assert (metrics["long"]["training_rows"], metrics["short"]["training_rows"]) == found


def test_overlap_is_counted_for_each_set_and_refused_with_examples() -> None:
    index = overlap([(WORDS, "x"), (f"so {WORDS}", "x"), ("clean", "row")])
    assert index.metrics() == {
        "long": {"training_rows": 2, "evaluation_rows": 1, "of": 2},
        "short": {"training_rows": 0, "evaluation_rows": 0, "of": 1},
    }
    assert index.lines()[0] == "2 training rows share 4 words or more with 1 of the 2 rows of long"
    with pytest.raises(UserError) as refused:
        index.refuse()
    assert "train, row 1 and row 2 of long ('one two three" in str(refused.value)
    assert "short" not in str(refused.value)
    overlap([("clean", "row")]).refuse()


def test_a_bad_row_among_the_demonstrations_is_skipped_as_elsewhere(tmp_path: Path) -> None:
    rows = source(tmp_path / "a.jsonl", [*ROWS[:5], {"src": "broken"}, *ROWS[5:]])
    recipe = ExampleRecipe((rows,), 0, FewShot(1), rows)
    bad_rows = BadRows("skip")
    assert len(list(recipe.stream(Counter(), bad_rows=bad_rows))) == len(ROWS)
    assert bad_rows.count == 1


def test_a_file_of_bad_rows_may_be_read_twice(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    source(tmp_path / "rows" / "a.jsonl", ROWS)
    source(tmp_path / "rows" / "b.jsonl", [{"src": "broken"}])
    both = TaskSource("rows", Source(split="", path=tmp_path / "rows"), "translation", (PLAIN,))
    bad_rows = BadRows("skip")
    for _ in range(2):
        assert len(list(ExampleRecipe((both,)).stream(Counter(), bad_rows=bad_rows))) == len(ROWS)
    assert bad_rows.count == 1


def test_a_held_out_value_may_be_in_the_other_part_of_a_split_set(tmp_path: Path) -> None:
    rows = source(tmp_path / "a.jsonl", [*ROWS, {"src": "x", "tgt": "y", "kind": "rare"}])
    parts = [
        replace(
            rows, leave_out={"kind": ("rare",)},
            source=replace(rows.source, holdout=Holdout(part, 0.3)),
        )
        for part in ("train", "validation")
    ]  # fmt: skip
    assert sum(len(texts(ExampleRecipe((part,)))) for part in parts) == len(ROWS)


def test_a_row_without_the_field_that_rows_are_chosen_by_is_a_bad_row(tmp_path: Path) -> None:
    ragged = [*ROWS, {"src": "x", "tgt": "y"}]
    rows = source(tmp_path / "a.jsonl", ragged, leave_out={"kind": ("a",)})
    bad_rows = BadRows("skip")
    assert len(list(ExampleRecipe((rows,)).stream(Counter(), bad_rows=bad_rows))) == 10
    assert "no field 'kind' to choose rows by" in bad_rows.first[0]


def test_no_turn_of_a_conversation_demonstrates_another_turn_of_it(tmp_path: Path) -> None:
    chats = [
        {"messages": [{"role": role, "content": f"{role} {turn} of {n}"}
                      for turn in "ab" for role in ("user", "assistant")]}
        for n in range(6)
    ]  # fmt: skip
    rows = source(
        tmp_path / "a.jsonl", chats, task="chat", templates=(Template("{dialogue}", "{reply}"),)
    )
    recipe = ExampleRecipe((rows,), 0, FewShot(4, separator="|"), rows)
    for _, example in recipe.stream(Counter()):
        own = example.response[-1]
        shown = example.prompt.split("|")[:-1]
        assert len(shown) == 4 and not any(f"of {own}" in demonstration for demonstration in shown)
    with pytest.raises(UserError, match=r"few_shot\.count = 5 needs at least 7 rows"):
        texts(ExampleRecipe((rows,), 0, FewShot(5), rows))


TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
UNREAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "a system prompt of a chat": ("chat", {"messages": TURNS, "system": "Be brief."}, "system"),
    "tools of a chat": ("chat", {"messages": TURNS, "tools": [{"name": "x"}]}, "tools"),
    "a call in a turn": (
        "chat", {"messages": [*TURNS, {**TURNS[0], "tool_calls": [{"id": 1}]}]}, "tool_calls"),
    "thoughts in a turn": (
        "chat", {"messages": [TURNS[0], {**TURNS[1], "reasoning_content": "hm"}]},
        "reasoning_content"),
    "a turn that is not learnt": (
        "chat", {"messages": [TURNS[0], {**TURNS[1], "weight": 0}]}, "weight"),
    "history": (
        "alpaca", {"instruction": "a", "output": "b", "history": [["c", "d"]]}, "history"),
    "Dolly's context": (
        "alpaca", {"instruction": "a", "output": "b", "context": "c"}, "context"),
    "a system prompt of instructions": (
        "instruction", {"inputs": "a", "targets": "b", "system_prompt": "c"}, "system_prompt"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_a_field_that_says_something_is_read_refused_or_left_out_by_name(
    name: str, tmp_path: Path
) -> None:
    task, row, field = UNREAD[name]
    given = source(tmp_path / "a.jsonl", [row], task=task, templates=(Template.of(task),))
    with pytest.raises(UserError) as refused:
        texts(ExampleRecipe((given,)))
    assert f"{tmp_path / 'a.jsonl'}, line 1: " in str(refused.value)
    assert f"'{field}' says something" in str(refused.value)
    assert f"`ignored_fields: [{field}]`" in str(refused.value)
    left_out = replace(given, ignored_fields=(field,))
    assert len(texts(ExampleRecipe((left_out,)))) >= 1
    assert left_out.identity() == given.identity()
    if field in row and isinstance(row[field], str):
        own = Template("{" + field + "} " + Template.of(task).prompt, Template.of(task).response)
        ((prompt, _),) = texts(ExampleRecipe((replace(given, templates=(own,)),)))
        assert prompt.startswith(row[field])


def test_fields_that_are_empty_or_read_under_another_name_are_no_matter(tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "instruction": "a", "input": "", "output": "b", "history": [], "system": None,
    }  # fmt: skip
    given = source(tmp_path / "a.jsonl", [row], task="alpaca", templates=(Template.of("alpaca"),))
    assert texts(ExampleRecipe((given,))) == [("a", "b")]
    row = {"input": "a", "response": "b", "id": 7, "category": "x"}
    renamed = source(tmp_path / "b.jsonl", [row], task="instruction",
                     templates=(Template.of("instruction"),))  # fmt: skip
    fields = {"inputs": "input", "targets": "response"}
    renamed = replace(renamed, source=replace(renamed.source, fields=fields))
    assert texts(ExampleRecipe((renamed,))) == [("a", "b")]
    own = replace(given, templates=(Template("{instruction}", "{output}"),))
    assert texts(ExampleRecipe((own,))) == [("a", "b")]
    row = {"instruction": "a", "input": "c", "output": "b"}
    unread = source(tmp_path / "c.jsonl", [row], task="alpaca", templates=own.templates)
    with pytest.raises(UserError, match="'input' says something"):
        texts(ExampleRecipe((unread,)))
