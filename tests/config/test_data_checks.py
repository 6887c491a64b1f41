"""Whether the parts of ``data`` fit together."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dlm.config.loading import load_recipe, resolved_yaml
from dlm.errors import UserError

TWO = "data.train=[{name: a, path: a.jsonl}, {name: b, path: b.jsonl}]"
SAME = "data.train=[{path: a.jsonl}, {path: a.jsonl}]"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.mixture.weights={words: 0}"], "data.mixture.weights.words = 0.0: must be above 0"),
        (["data.mixture.weights={wrds: 1}"], "has this name; did you mean 'words'?"),
        ([TWO, "data.mixture.weights={a: 1}"], "source 'b' has no weight, and would never be"),
        (
            ["data.mixture={weights: {words: 1}, cap: 5}"],
            "given beside temperature or cap, which would be ignored",
        ),
        ([SAME, "data.mixture.temperature=2"], "2 sources are called 'a.jsonl', and a mixture"),
        (["data.mixture.temperature=0"], "data.mixture.temperature = 0.0: must be above 0"),
        (["data.mixture.cap=0"], "data.mixture.cap = 0: must be at least 1"),
        (["stages.adapt.data.few_shot.count=-1"], "few_shot.count = -1: must be at least 0"),
        (["stages.adapt.data.few_shot.pool_rows=0"], "few_shot.pool_rows = 0: must be at least 1"),
        (["data.overlap_words=0"], "data.overlap_words = 0: must be at least 1"),
        (["stages.scores=null", "data.overlap=report"], "the recipe has no evaluate stage to comp"),
        (["stages.adapt.data.text=x"], "only rows of the task text read it"),
        (["stages.vocabulary.data.deduplicate=true"], "kind tokenizer does not read it"),
        (["stages.vocabulary.data.overlap=refuse"], "kind tokenizer does not read it"),
        (["stages.vocabulary.data.task=chat"], "kind tokenizer does not read it"),
        (["stages.pretrain.data.few_shot.count=1"], "texts have no prompt to put demonstrations"),
        ([TWO, "stages.adapt.data.few_shot.count=1"], "which training source gives the demonst"),
        (
            ["stages.adapt.data.few_shot={count: 1, source: wrds}"],
            "data.few_shot.source = 'wrds': no training source has this name; did you mean 'words'",
        ),
        (
            ["stages.adapt.data={prompt: '{src}', templates: [{prompt: '{src}', response: x}]}"],
            "data.prompt = '{src}': ignored setting: data.templates is given too",
        ),
        (
            ["stages.adapt.data={prompt: '{src}', vary_prompts: true}"],
            "excludes data.prompt and data.response, which are one template",
        ),
        (
            ["stages.adapt.data.templates=[{prompt: x}]"],
            "data.templates[0].response: missing: what is learnt",
        ),
        (
            ["stages.vocabulary.data.train=[{path: a.txt, keep_only: {kind: [a]}}]"],
            "ignored setting: kind tokenizer does not read a source's keep_only",
        ),
        (["data.overlap=of"], "must be one of ignore, report, refuse"),
        (["data.too_long=cut"], "must be one of error, drop, truncate_prompt"),
    ],
)
def test_parts_that_do_not_fit_are_named(chain: Path, overrides: list[str], expected: str) -> None:
    with pytest.raises(UserError) as refused:
        load_recipe(chain, overrides)
    assert expected in str(refused.value)


def test_what_fits_is_read_back_from_the_resolved_recipe(
    chain: Path, write: Callable[..., Path]
) -> None:
    recipe = load_recipe(
        chain,
        [
            "stages.adapt.data={train: [{name: a, path: a.jsonl, leave_out: {kind: [x]}}, "
            "{name: b, path: b.jsonl, task: math}], mixture: {weights: {a: 1, b: 3}}, "
            "few_shot: {count: 2, source: b}, deduplicate: true, overlap: report}"
        ],
    )
    assert load_recipe(write(resolved_yaml(recipe), "again.yaml")) == recipe
    assert recipe.stages["adapt"].data.mixture.weights == {"a": 1.0, "b": 3.0}
