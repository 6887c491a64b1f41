from dataclasses import replace
from typing import Any

import pytest
from small_platform import DATA

from dlm.config.schema import (
    CheckpointConfig,
    EvaluationConfig,
    HardwareConfig,
    LoggingConfig,
    LoraConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    SourceConfig,
    StageConfig,
    SystemConfig,
    TrainConfig,
    ValidationConfig,
    VocabularyConfig,
)
from dlm.generation.settings import GenerationSettings
from dlm.recipe.fingerprint import difference, identify, semantic_config

STAGE = StageConfig(kind="adapt", init_from="pretrain", data=DATA, seed=0)
NEEDS = {"pretrain": "a" * 64}


def key(stage: StageConfig, needs: dict[str, str] = NEEDS, data: Any = "rows") -> str:
    return identify(stage, needs, data).fingerprint


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"hardware": HardwareConfig(devices=8, num_workers=4, compile=True)},
        {"hardware": HardwareConfig(activation_checkpointing=True)},
        {"lora": LoraConfig(keep_adapter=True)},
        {"checkpoint": CheckpointConfig(every_n_steps=1)},
        {"logging": LoggingConfig(every_n_steps=1)},
        {"train": TrainConfig(micro_batch_size=2)},
        {"data": replace(DATA, root="/somewhere/else")},
        {"description": "another description"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_where_a_stage_runs_does_not_change_its_key(elsewhere: dict[str, Any]) -> None:
    assert key(replace(STAGE, **elsewhere)) == key(STAGE)


@pytest.mark.parametrize(
    "change",
    [
        {"optim": OptimConfig(lr=1e-3)},
        {"train": TrainConfig(steps=7)},
        {"train": TrainConfig(ema_decay=0.99)},
        {"lora": LoraConfig(rank=8)},
        {"model": ModelConfig(vocabulary=VocabularyConfig(keep="used"))},
        {"model": ModelConfig(fresh_head=True)},
        {"seed": 1},
        {"init_from": "org/model"},
        {"kind": "instruct"},
        {"data": replace(DATA, max_length=64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_stage_does_changes_its_key(change: dict[str, Any]) -> None:
    assert key(replace(STAGE, **change)) != key(STAGE)


def test_other_rows_and_another_earlier_stage_change_the_key() -> None:
    assert key(STAGE, data="other rows") != key(STAGE)
    assert key(STAGE, needs={"pretrain": "b" * 64}) != key(STAGE)


def test_names_of_stages_files_and_sources_stay_out_of_the_key() -> None:
    source = SourceConfig(path="here.jsonl", name="one")
    moved = SourceConfig(path="there.jsonl", name="two")
    here, there = (replace(STAGE, data=replace(DATA, train=[item])) for item in (source, moved))
    assert key(here) == key(there)
    assert key(replace(STAGE, init_from="first"), needs={"first": "a" * 64}) == key(STAGE)


def test_sections_of_another_kind_stay_out_of_the_key() -> None:
    tokenizer = StageConfig(kind="tokenizer", data=DATA, seed=0)
    assert key(replace(tokenizer, optim=OptimConfig(lr=1.0)), {}) == key(tokenizer, {})


def test_an_evaluated_model_counts_by_content_and_its_decoding_portions_do_not() -> None:
    def stage(model: str, **generation: Any) -> StageConfig:
        systems = {"ours": SystemConfig(model=model, generation=generation)}
        return StageConfig(kind="evaluate", evaluation=EvaluationConfig(systems=systems), seed=0)

    base = key(stage("adapt"), {"adapt": "a" * 64})
    assert key(stage("renamed"), {"renamed": "a" * 64}) == base
    assert key(stage("adapt"), {"adapt": "b" * 64}) != base
    assert key(stage("adapt", batch_tokens=1), {"adapt": "a" * 64}) == base
    assert key(stage("adapt", length_beam=1), {"adapt": "a" * 64}) != base


def test_the_difference_names_each_key_with_old_and_new_value() -> None:
    old = identify(STAGE, NEEDS, {"train": ["abc"]})
    new = identify(replace(STAGE, optim=OptimConfig(lr=1e-3)), NEEDS, {"train": ["abd"]})
    assert [str(change) for change in difference(old, new)] == [
        "optim.lr: 5e-05 -> 0.001",
        'rows.train: ["abc"] -> ["abd"]',
    ]


def test_a_setting_that_came_later_is_in_the_key_only_where_it_is_set() -> None:
    assert not {"vocabulary", "fresh_head"} & semantic_config(STAGE)["model"].keys()
    fresh = replace(STAGE, model=ModelConfig(fresh_head=True))
    assert semantic_config(fresh)["model"]["fresh_head"] is True
    used = replace(STAGE, model=ModelConfig(vocabulary=VocabularyConfig(keep="used")))
    changes = difference(identify(STAGE, NEEDS, "rows"), identify(used, NEEDS, "rows"))
    assert 'model.vocabulary.keep: (not set) -> "used"' in map(str, changes)


def test_a_setting_that_means_something_else_now_has_another_key() -> None:
    """Whatever had no other result keeps its key."""

    def meaning(stage: StageConfig) -> Any:
        return semantic_config(stage).get("meaning")

    placed = {"response_positions": "from one start on, where rows leave room"}
    strata = {"validation_strata": "of all validation rows"}
    assert meaning(STAGE) == placed
    said = replace(STAGE, model=ModelConfig(response_positions="continued"))
    assert meaning(said) is None
    assert meaning(replace(STAGE, kind="instruct")) is None
    assert meaning(replace(STAGE, kind="pretrain")) is None, "texts have no responses"
    validated = replace(DATA, validation=DATA.train)
    drawn = replace(said, data=validated, objective=ObjectiveConfig(times="low_discrepancy"))
    assert meaning(drawn) is None, "a generated score chooses the step"
    assert meaning(replace(drawn, validation=ValidationConfig(generate_rows=0))) == strata
    twin = StageConfig(kind="autoregressive", data=DATA, seed=0)
    assert meaning(twin) == placed
    of_texts = replace(twin, data=replace(DATA, task="text"))
    assert meaning(of_texts) == {"text": "learnt from left to right"}


def test_the_mask_token_without_probability_is_in_the_key_of_elbo_alone() -> None:
    def meaning(**objective: Any) -> Any:
        changed = replace(STAGE, objective=ObjectiveConfig(**objective))
        return semantic_config(changed)["meaning"].get("zero_masking")

    assert meaning() is meaning(weight="elbo", zero_masking=False) is None
    assert meaning(weight="elbo") == "the mask token has probability 0"
    assert "zero_masking" not in semantic_config(STAGE)["objective"]


def test_stages_of_samplers_that_write_other_texts_now_have_another_key() -> None:
    def meaning(**generation: Any) -> Any:
        changed = replace(STAGE, generation=GenerationSettings(**generation))
        return semantic_config(changed)["meaning"].get("samplers")

    usual = replace(STAGE, generation=GenerationSettings(num_iterations=10))
    assert key(usual) == key(STAGE), "10 is what no number is for most samplers"
    assert meaning() is meaning(sampler="frozen-linear") is None
    assert meaning(sampler="mdlm", num_iterations=10) is meaning(sampler="eb", num_iterations=9)
    assert meaning(sampler="mdlm") == "mdlm: its own iterations"
    assert meaning(sampler="llada", num_iterations=10) == "llada: its own schedule"
    assert meaning(sampler="llada") == "llada: its own iterations; llada: its own schedule"
    systems = {"a": SystemConfig("x"), "b": SystemConfig("x", {"sampler": "fast-dllm"})}
    evaluated = StageConfig(
        kind="evaluate", evaluation=EvaluationConfig(systems=systems), seed=0,
        generation=GenerationSettings(num_iterations=10),
    )  # fmt: skip
    assert semantic_config(evaluated)["meaning"] == {"samplers": "fast-dllm: blocks of 32"}


def test_the_semantic_config_is_plain_and_without_where() -> None:
    config = semantic_config(STAGE)
    assert config["train"] == {
        "steps": 1000,
        "global_batch_size": None,
        "global_batch_tokens": None,
        "precision": "32-true",
        "ema_decay": None,
        "label_smoothing": 0.0,
        "length_grouping": 50,
    }
    assert not {"hardware", "checkpoint", "logging", "length"} & config.keys()
    assert "path" not in config["data"]["train"][0]
