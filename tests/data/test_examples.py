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
from dlm.data.sources import Place, Source
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
