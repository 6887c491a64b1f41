"""The list of mutants fits the code as it is: `make mutants` runs them."""

import ast
from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.old[:40])
def test_a_mutant_is_one_change_that_python_can_read(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.file} has changed: write its mutant anew"
    changed = text.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.old[:40])
def test_its_tests_exist(mutant: Mutant) -> None:
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8")


def test_there_are_forty_and_few_of_them_are_equivalent() -> None:
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == 40
    assert sum(bool(mutant.equivalent) for mutant in MUTANTS) <= 2
