"""Generated rows: right, with clean splits, stable draws and clear errors."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from itertools import compress
from typing import Any, get_args

import pytest

from dlm.data.generated import GENERATORS, generate, identity
from dlm.data.generated.draws import GENERATOR_VERSION, Row, Split, split_of_key
from dlm.data.generated.numbers import (
    DEFAULT_TASKS,
    LANGUAGES,
    TASKS,
    TRANSLATIONS,
    Date,
    split_of,
    successor,
    words,
)

SPLITS = ("train", "validation", "test")
SUNDAY, MONDAY = 6, 0
NUMBER_OF = {(words(n, language), language): n for n in range(1, 10_000) for language in LANGUAGES}
FIXED_SPLITS: dict[int | Date, str] = {
    5: "test",
    7: "train",
    15: "validation",
    207: "train",
    Date(SUNDAY, 24, 3): "test",
    Date(MONDAY, 1, 8): "train",
}
FIRST_PAIRS = [
    {
        "src": "thursday the twenty-first of july",
        "tgt": "donnerstag der einundzwanzigste juli",
    },
    {
        "src": "seven thousand eight hundred and fifty-two",
        "tgt": "siebentausendachthundertzweiundfünfzig",
    },
]
LANGUAGE_OF = {"English": "en", "German": "de", "French": "fr", "Spanish": "es"}


def drawn(name: str, **arguments: Any) -> list[Row]:
    return generate(name, **{"split": "train", "count": 300, "seed": 0, **arguments})


def texts_of(name: str, split: str, count: int, **options: Any) -> set[str]:
    """Every item text that appears in the rows, prompts stripped."""
    found: set[str] = set()
    for row in drawn(name, split=split, count=count, **options):
        found.update(row[key] for key in ("text", "src", "tgt") if key in row)
        if "inputs" in row:
            found.update(row["inputs"].partition(": ")[2].rstrip("?").split(" or "))
            if row["task"] != "digits":
                found.add(row["targets"])
    return found


@pytest.mark.parametrize(
    ("item", "language", "expected"),
    [
        (207, "en", "two hundred and seven"),
        (207, "de", "zweihundertsieben"),
        (207, "fr", "deux cent sept"),
        (207, "es", "doscientos siete"),
        (24, "en", "twenty-four"),
        (24, "de", "vierundzwanzig"),
        (24, "fr", "vingt-quatre"),
        (24, "es", "veinticuatro"),
        (1984, "en", "one thousand nine hundred and eighty-four"),
        (1984, "de", "eintausendneunhundertvierundachtzig"),
        (1984, "fr", "mille neuf cent quatre-vingt-quatre"),
        (1984, "es", "mil novecientos ochenta y cuatro"),
        (80, "fr", "quatre-vingts"),
        (2000, "fr", "deux mille"),
        (2222, "es", "dos mil doscientos veintidós"),
        (Date(SUNDAY, 24, 3), "en", "sunday the twenty-fourth of march"),
        (Date(SUNDAY, 24, 3), "de", "sonntag der vierundzwanzigste märz"),
        (Date(SUNDAY, 24, 3), "fr", "dimanche vingt-quatre mars"),
        (Date(SUNDAY, 24, 3), "es", "domingo veinticuatro de marzo"),
        (Date(MONDAY, 1, 8), "en", "monday the first of august"),
        (Date(MONDAY, 1, 8), "de", "montag der erste august"),
        (Date(MONDAY, 1, 8), "fr", "lundi premier août"),
        (Date(MONDAY, 1, 8), "es", "lunes uno de agosto"),
    ],
)
def test_items_have_the_exact_words_of_each_language(
    item: int | Date, language: str, expected: str
) -> None:
    assert words(item, language) == expected


def test_words_are_lower_case_without_digits_or_commas_and_differ_between_numbers() -> None:
    assert len(NUMBER_OF) == 9999 * len(LANGUAGES)
    for text, _ in NUMBER_OF:
        assert text == text.lower()
        assert text.replace(" ", "").replace("-", "").isalpha()


def test_the_split_of_an_item_is_fixed() -> None:
    assert [split_of(n) for n in FIXED_SPLITS] == list(FIXED_SPLITS.values())


def test_splits_share_no_item_in_any_generator_or_language() -> None:
    texts = {
        split: texts_of("number_text", split, 1000)
        | texts_of("number_instructions", split, 1000, tasks=list(TASKS))
        | set().union(
            *(
                texts_of("number_pairs", split, 500, source=a, target=b)
                for a, b in (("en", "de"), ("es", "fr"))
            )
        )
        for split in SPLITS
    }
    owners = {
        split: {
            split_of(NUMBER_OF[text, language])
            for text in texts[split]
            for language in LANGUAGES
            if (text, language) in NUMBER_OF
        }
        for split in SPLITS
    }
    assert owners == {split: {split} for split in SPLITS}
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]


def test_all_items_of_the_splits_together_are_all_numbers_and_dates_in_about_80_8_12() -> None:
    def most(split: str, date_share: float) -> list[Row]:
        with pytest.raises(ValueError, match="distinct rows") as error:
            drawn("number_pairs", split=split, count=10**9, date_share=date_share)
        maximum = int(str(error.value).split("0 to ")[1].split()[0])
        return drawn("number_pairs", split=split, count=maximum, date_share=date_share)

    numbers = {split: {row["src"] for row in most(split, 0)} for split in SPLITS}
    dates = {split: {row["src"] for row in most(split, 1)} for split in SPLITS}
    for parts, total in ((numbers, 9999), (dates, 7 * 366)):
        assert len(set().union(*parts.values())) == total
        for split, share in zip(SPLITS, (0.80, 0.08, 0.12), strict=True):
            assert len(parts[split]) / total == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("name", list(GENERATORS))
def test_rows_repeat_for_a_seed_and_change_with_it(name: str) -> None:
    assert drawn(name) == drawn(name)
    assert drawn(name) != drawn(name, seed=1)


@pytest.mark.parametrize("name", list(GENERATORS))
def test_a_larger_count_keeps_the_first_rows(name: str) -> None:
    assert drawn(name, count=1000)[:37] == drawn(name, count=37)


@pytest.mark.parametrize("name", list(GENERATORS))
def test_rows_of_a_call_are_distinct(name: str) -> None:
    options = {"tasks": [*TRANSLATIONS, "larger"]} if name == "number_instructions" else {}
    rows = drawn(name, split="validation", count=300, **options)
    assert len({json.dumps(row) for row in rows}) == len(rows)


@pytest.mark.parametrize("name", list(GENERATORS))
def test_the_global_random_state_is_neither_changed_nor_read(name: str) -> None:
    random.seed(1234)
    before = random.getstate()
    rows = drawn(name)
    assert random.getstate() == before
    random.seed(5678)
    assert drawn(name) == rows


def test_first_rows_stay_what_they_are_until_the_version_is_raised() -> None:
    assert GENERATOR_VERSION == 1
    assert drawn("number_pairs", count=2) == FIRST_PAIRS


def test_date_share_is_the_share_of_dates() -> None:
    def share(date_share: float) -> float:
        rows = drawn("number_pairs", count=1000, date_share=date_share)
        return sum("day the " in row["src"] for row in rows) / len(rows)

    assert share(0) == 0
    assert share(1) == 1
    assert share(0.2) == pytest.approx(0.2, abs=0.04)
    assert share(0.6) == pytest.approx(0.6, abs=0.05)


def test_max_number_bounds_the_numbers() -> None:
    rows = drawn("number_pairs", count=50, max_number=99, date_share=0)
    assert max(NUMBER_OF[row["src"], "en"] for row in rows) <= 99


def test_lines_are_in_the_languages_asked_for() -> None:
    assert {row["language"] for row in drawn("number_text")} == set(LANGUAGES)
    rows = drawn("number_text", languages=["fr", "es"], date_share=0)
    assert {row["language"] for row in rows} == {"fr", "es"}
    assert all((row["text"], row["language"]) in NUMBER_OF for row in rows)


def test_pairs_are_the_same_number_in_both_languages() -> None:
    for row in drawn("number_pairs", source="fr", target="es", date_share=0):
        assert NUMBER_OF[row["src"], "fr"] == NUMBER_OF[row["tgt"], "es"]


def test_translation_answers_the_prompt_in_the_language_it_names() -> None:
    for row in drawn("number_instructions", tasks=list(TRANSLATIONS), date_share=0):
        source, target = row["task"].removeprefix("translate:").split("-")
        order, _, text = row["inputs"].partition(": ")
        assert LANGUAGE_OF[order.removeprefix("Translate to ")] == target
        assert NUMBER_OF[text, source] == NUMBER_OF[row["targets"], target]


def test_digits_are_those_of_the_words() -> None:
    seen = set()
    for row in drawn("number_instructions", tasks=["digits"]):
        text = row["inputs"].removeprefix("Write in digits: ")
        languages = [language for language in LANGUAGES if (text, language) in NUMBER_OF]
        seen.update(languages)
        for language in languages:
            assert row["targets"] == " ".join(str(NUMBER_OF[text, language]))
    assert seen == set(LANGUAGES)


def test_larger_names_the_larger_of_two_different_numbers_on_either_side() -> None:
    sides = Counter[bool]()
    for row in drawn("number_instructions", tasks=["larger"], max_number=50):
        question = row["inputs"].removeprefix("Which is larger: ").removesuffix("?")
        left, right = (NUMBER_OF[text, "en"] for text in question.split(" or "))
        assert left != right
        assert NUMBER_OF[row["targets"], "en"] == max(left, right)
        sides[left > right] += 1
    assert min(sides.values()) > 100


def test_larger_can_draw_every_ordered_pair_once() -> None:
    numbers = [n for n in range(1, 13) if split_of(n) == "train"]
    pairs = len(numbers) * (len(numbers) - 1)
    rows = drawn("number_instructions", tasks=["larger"], max_number=12, count=pairs)
    assert len({row["inputs"] for row in rows}) == pairs


def test_tasks_take_turns_and_only_listed_ones_are_drawn() -> None:
    tasks = ["larger", "translate:de-fr", "digits"]
    rows = drawn("number_instructions", tasks=tasks, count=301)
    assert Counter(row["task"] for row in rows) == dict(zip(tasks, (101, 100, 100), strict=True))
    assert {row["task"] for row in drawn("number_instructions")} == set(DEFAULT_TASKS)
    assert "translate:de-fr" not in DEFAULT_TASKS


def test_the_rows_of_a_task_do_not_depend_on_the_other_tasks() -> None:
    alone = drawn("number_instructions", tasks=["digits"], count=10)
    mixed = drawn("number_instructions", tasks=["larger", "digits"], count=20)
    assert [row for row in mixed if row["task"] == "digits"] == alone


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "poems"},
            "unknown generator 'poems'; valid: number_text, number_counting, number_pairs, "
            "number_choices, number_instructions, hairpin_gaps, function_bodies",
        ),
        ({"split": "dev"}, "unknown split 'dev'; valid: train, validation, test"),
        (
            {"langs": ["en"]},
            "unknown option of number_text 'langs'; valid: languages, max_number, date_share",
        ),
        ({"languages": ["en", "it"]}, "unknown language 'it'; valid: en, de, fr, es"),
        ({"languages": "en"}, "languages must be a list of some of en, de, fr, es, not 'en'"),
        ({"languages": []}, "languages must be a list of some of en, de, fr, es, not []"),
        ({"languages": ["en", "en"]}, "languages names one of en, en twice"),
        (
            {"name": "number_pairs", "source": "it"},
            "unknown source language 'it'; valid: en, de, fr, es",
        ),
        ({"name": "number_pairs", "target": 3}, "unknown target language 3; valid: en, de, fr, es"),
        ({"name": "number_pairs", "source": "de"}, "number_pairs: source and target are both 'de'"),
        (
            {"name": "number_instructions", "tasks": ["translate:en-en"]},
            f"unknown task 'translate:en-en'; valid: {', '.join(TASKS)}",
        ),
        ({"name": "number_choices", "choices": 1}, "choices must be an integer 2 to 10, not 1"),
        ({"max_number": 21_000}, "max_number must be an integer 1 to 20999, not 21000"),
        ({"max_number": True}, "max_number must be an integer 1 to 20999, not True"),
        (
            {"name": "hairpin_gaps", "max_number": 9},
            "unknown option of hairpin_gaps 'max_number'; valid: none",
        ),
        ({"date_share": 1.5}, "date_share must be a number from 0 to 1, not 1.5"),
        ({"date_share": "0.2"}, "date_share must be a number from 0 to 1, not '0.2'"),
    ],
)
@pytest.mark.parametrize("function", [generate, identity])
def test_a_wrong_argument_is_named_with_the_valid_choices(
    function: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        function(**{"name": "number_text", "split": "train", "count": 1, "seed": 0, **arguments})
    assert str(error.value) == message


@pytest.mark.parametrize("too_large", [True, False])
def test_a_count_beyond_the_distinct_rows_is_refused_with_the_maximum(too_large: bool) -> None:
    numbers = sum(split_of(n) == "train" for n in range(1, 13))
    tasks = ["larger", "translate:en-de"]
    maximum = 2 * numbers + 1
    options: dict[str, Any] = {"tasks": tasks, "max_number": 12, "date_share": 0}
    count = maximum + 1 if too_large else -1
    with pytest.raises(ValueError) as error:
        drawn("number_instructions", count=count, **options)
    assert str(error.value) == (
        f"number_instructions: count is {count}; the train split has 0 to {maximum} distinct rows "
        "with these options"
    )
    assert len(drawn("number_instructions", count=maximum, **options)) == maximum


def test_a_number_too_large_for_correct_words_is_refused() -> None:
    with pytest.raises(ValueError, match="number 21000 is outside 1 to 20999"):
        words(21_000, "es")


def test_identity_is_json_with_every_option_and_version() -> None:
    found = identity("number_pairs", split="test", count=5, seed=3, target="fr", date_share=0)
    assert json.loads(json.dumps(found)) == found
    assert found["options"] == {
        "source": "en",
        "target": "fr",
        "max_number": 9999,
        "date_share": 0.0,
    }
    assert {key: found[key] for key in ("name", "split", "count", "seed")} == {
        "name": "number_pairs",
        "split": "test",
        "count": 5,
        "seed": 3,
    }
    assert found["generator_version"] == GENERATOR_VERSION
    assert {"num2words", "babel"} <= set(found)


@pytest.mark.parametrize("name", ["hairpin_gaps", "function_bodies"])
def test_rows_without_words_of_numbers_do_not_depend_on_their_libraries(name: str) -> None:
    found = identity(name, split="test", count=5, seed=3)
    assert set(found) == {"name", "split", "count", "seed", "options", "generator_version"}


def test_identity_does_not_depend_on_writing_out_a_default() -> None:
    common: dict[str, Any] = {"split": "train", "count": 5, "seed": 3}
    implicit = identity("number_text", **common)
    assert identity("number_text", **common, languages=list(LANGUAGES)) == implicit
    assert identity("number_text", **common, date_share=0.3) != implicit


def test_twenty_thousand_rows_are_quick() -> None:
    words.cache_clear()
    start = time.process_time()
    assert len(drawn("number_text", count=20_000)) == 20_000
    assert time.process_time() - start < 10


def test_counting_lists_two_successive_items_of_the_same_split_in_one_language() -> None:
    rows = generate("number_counting", split="train", count=300, seed=0, date_share=0.0)
    english = [row["text"] for row in rows if row["language"] == "en"]
    by_words = {words(number, "en"): number for number in range(1, 10_000)}
    assert english
    for text in english:
        starts = [i for i in range(len(text)) if text.startswith(" and ", i)]
        found = [(by_words.get(text[:i]), by_words.get(text[i + 5 :])) for i in starts]
        assert any(a is not None and b == a + 1 and split_of(b) == "train" for a, b in found), text


def test_the_day_after_the_last_of_a_month_is_the_first_of_the_next() -> None:
    assert successor(Date(6, 31, 12)) == Date(0, 1, 1)
    assert successor(Date(1, 28, 2)) == Date(2, 29, 2)
    assert successor(7) == 8


def test_the_answer_is_the_number_among_near_ones_of_the_same_split() -> None:
    rows = drawn("number_choices", split="test", choices=4)
    places = Counter(row["answer"] for row in rows)
    for row in rows:
        number = NUMBER_OF[row["src"], "en"]
        listed = [NUMBER_OF[text, "de"] for text in row["choices"]]
        assert listed[row["answer"]] == number
        assert len(set(listed)) == 4 and all(split_of(n) == "test" for n in listed)
        assert max(abs(n - number) for n in listed) < 200
    assert min(places[place] for place in range(4)) > 40  # no place is the safe guess


def test_a_split_with_fewer_numbers_than_choices_has_no_questions() -> None:
    assert generate("number_choices", split="test", count=0, seed=0, max_number=9) == []
    with pytest.raises(ValueError, match="the test split has 0 to 0 distinct rows"):
        generate("number_choices", split="test", count=1, seed=0, max_number=9, choices=10)


PAIRS = ("KE", "RD", "VI", "LF", "WY", "TS", "NQ", "CM", "AG", "HP")
FACING = {pair[i]: pair[1 - i] for pair in PAIRS for i in (0, 1)}
"""Residues that pair: charge with charge, size with size."""


def test_the_missing_strand_is_what_faces_the_strand_behind_the_turn() -> None:
    for row in drawn("hairpin_gaps", count=1000):
        before, after = re.split("_+", row["inputs"])
        strand = row["targets"]
        assert row["inputs"].count("_") == len(strand) and 5 <= len(strand) <= 7
        assert row["text"] == before + strand + after
        turn, facing = after[:2], after[2 : 2 + len(strand)]
        assert turn in {"NG", "DG", "PG", "GN"}
        assert "".join(FACING[residue] for residue in reversed(facing)) == strand


def test_what_stands_before_a_gap_does_not_say_what_is_missing() -> None:
    """Residues next to the gap, on its left, and its first: no more alike than by chance."""
    rows = drawn("hairpin_gaps", count=20_000)
    pairs = Counter((row["inputs"].split("_")[0][-1], row["targets"][0]) for row in rows)
    assert len(pairs) == 400 and max(pairs.values()) < 100 and min(pairs.values()) > 20


def test_no_strand_is_in_two_splits() -> None:
    strands: dict[Split, set[str]] = {
        split: {row["targets"] for row in drawn("hairpin_gaps", split=split, count=4000)}
        for split in get_args(Split)
    }
    assert all(len(found) == 4000 for found in strands.values())
    for split, found in strands.items():
        assert {split_of_key(f"strand:{strand}") for strand in found} == {split}


def run(row: Row, values: list[int]) -> object:
    """What the function of a row gives back."""
    name = re.search(r"for \w+ in (\w+):", row["targets"])
    assert name
    scope: dict[str, Any] = {}
    exec(f"def function({name[1]}):\n{row['targets']}", scope)
    return scope["function"](values)


TESTS: dict[str, Callable[[int, int], bool]] = {
    "even": lambda x, n: x % 2 == 0,
    "odd": lambda x, n: x % 2 == 1,
    "above": lambda x, n: x > n,
    "below": lambda x, n: x < n,
    "at least": lambda x, n: x >= n,
    "not": lambda x, n: x != n,
    "divisible by": lambda x, n: x % n == 0,
}
DONE: dict[str, Callable[[list[int], list[bool]], object]] = {
    "Add up the": lambda xs, yes: sum(compress(xs, yes)),
    "Add up the before": lambda xs, yes: sum(xs[: yes.index(True) if any(yes) else len(xs)]),
    "Count the": lambda xs, yes: sum(yes),
    "List the": lambda xs, yes: list(compress(xs, yes)),
    "Part the": lambda xs, yes: (
        list(compress(xs, yes)), list(compress(xs, [not each for each in yes])),
    ),
    "Find the first of the": lambda xs, yes: next(compress(xs, yes), None),
    "Say whether any of the": lambda xs, yes: any(yes),
    "Say whether all of the": lambda xs, yes: all(yes),
}  # fmt: skip
ORDER = re.compile(
    r"(Add up the|Count the|List the|Part the|Find the first of the|Say whether (?:any|all) of the)"
    r" (\w+) (?:that )?((?:before) the first that is |are |is )(\D+?) ?(\d+)?( from the others)?\."
)


def test_a_body_does_what_its_instruction_says() -> None:
    """Run on lists that it was not written for, of even and odd, small and large numbers."""
    seen = Counter[str]()
    for row in drawn("function_bodies", count=3000):
        found = ORDER.fullmatch(row["inputs"])
        assert found, row["inputs"]
        order = found[1] + (" before" if found[3].startswith("before") else "")
        seen[order] += 1
        number = int(found[5] or 2)
        rng = random.Random(row["inputs"])
        for _ in range(5):
            values = [rng.choice([rng.randrange(120), number]) for _ in range(rng.randrange(6))]
            meets = [TESTS[found[4]](value, number) for value in values]
            assert run(row, values) == DONE[order](values, meets), row
    assert set(seen) == set(DONE) and min(seen.values()) > 200


def test_bodies_are_indented_by_four_and_hold_out_combinations() -> None:
    rows = {split: drawn("function_bodies", split=split, count=4000) for split in SPLITS}
    for line in (line for row in rows["train"] for line in row["targets"].split("\n")):
        blanks = len(line) - len(line.lstrip(" "))
        assert blanks in (4, 8, 12) and line.strip() and line == line.rstrip()
    asked = [{row["inputs"] for row in found} for found in rows.values()]
    assert not (asked[0] & asked[1] or asked[0] & asked[2] or asked[1] & asked[2])
    assert all(len(found) == 4000 for found in asked)
