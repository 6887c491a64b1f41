"""A pretrain stage on texts and on pairs: translation language modelling."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resume_tools import (
    STEPS,
    RecordBatches,
    Uninterrupted,
    assert_same_result,
    copy_needed,
    directory,
    run,
    run_interrupted,
    undisturbed_pretraining,
    with_callbacks,
)

from dlm.config.loading import load_recipe
from dlm.recipe.kinds import data_identity

RECIPE = Path(__file__).parent / "resume_chain.yaml"
TEXTS, PAIRS = "{name: texts, generator: number_text, count: 60}", "generator: number_pairs"
SOURCES = "stages.pretrain.data.train=[%s, {name: pairs, %s, task: translation, count: 60}]"
BOTH = (
    SOURCES % (TEXTS, PAIRS),
    "stages.pretrain.data.validation=[{generator: number_text, count: 20}, "
    "{generator: number_pairs, count: 20, task: translation}]",
    "stages.pretrain.data.mixture.weights={texts: 1, pairs: 3}",
    "stages.pretrain.data.text_blocks=24",
    "stages.pretrain.data.deduplicate=true",
    "stages.pretrain.objective={weight: constant, normaliser: masked, times: independent}",
)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_a_stage_on_texts_and_pairs_resumes_as_if_it_was_never_stopped(
    layout: str, chain: Path, uninterrupted: Uninterrupted, run_dir: Path, tmp_path: Path
) -> None:
    uninterrupted("tokenizer")
    changes = (*BOTH, f"stages.pretrain.train.layout={layout}")
    whole, batches = undisturbed_pretraining(chain, tmp_path / "whole", *changes)
    stage = copy_needed(chain, run_dir, "pretrain")
    run_interrupted(run_dir, "pretrain", 10, *changes)
    after = RecordBatches()
    with with_callbacks(after):
        assert run(run_dir, *changes, only="pretrain") == 0
    assert after.seen == {step: batches[step] for step in range(8, STEPS)}
    assert_same_result(stage, directory(whole, "pretrain"))


def test_which_side_is_learnt_is_in_the_fingerprint_and_only_of_pairs() -> None:
    def identity(*overrides: str) -> Any:
        return data_identity(load_recipe(str(RECIPE), list(overrides)).stages["pretrain"])

    train, validation = identity(*BOTH)
    masked = [source.get("masked") for source in (*train, *validation)]
    assert masked == [None, "prompt and response"] * 2
    plain = load_recipe(str(RECIPE)).stages
    assert "masked" not in str(data_identity(plain["pretrain"]))
    assert "masked" not in str(data_identity(plain["adapt"]))


@pytest.fixture
def refused() -> Callable[..., str]:
    def problems(*overrides: str) -> str:
        from dlm.errors import UserError

        with pytest.raises(UserError) as error:
            stage = load_recipe(str(RECIPE), list(overrides)).stages["adapt"]
            data_identity(stage)
        return str(error.value)

    return problems


def test_other_kinds_refuse_texts_beside_pairs(refused: Callable[..., str]) -> None:
    texts = "{generator: number_text, task: text, count: 9}"
    train = f"stages.adapt.data.train=[{{{PAIRS}, count: 9}}, {texts}]"
    assert "do not train together, except in a stage of kind pretrain" in refused(train)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.few_shot={count: 1, source: pairs}", "texts have no prompt to put demonstrations"),
        ("data.prompt='{src}'", "ignored setting: data.task is text, and sources of other tasks"),
        ("data.templates=[{prompt: a, response: b}]", "data.task is text, and sources of other"),
    ],
)
def test_settings_that_a_stage_of_texts_and_pairs_would_ignore_are_refused(
    override: str, message: str, refused: Callable[..., str]
) -> None:
    assert message in refused(*BOTH, f"stages.pretrain.{override}")


def test_pairs_alone_have_no_texts_to_join(refused: Callable[..., str]) -> None:
    pairs = f"stages.pretrain.data.train=[{{{PAIRS}, count: 9, task: translation}}]"
    blocks = "stages.pretrain.data.text_blocks=24"
    held = "stages.pretrain.data.validation=[]"
    assert "only rows of the task text are joined" in refused(pairs, held, blocks)
