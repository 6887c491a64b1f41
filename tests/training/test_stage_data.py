"""From a stage's ``data`` to its rows: mixtures, demonstrations, long prompts, overlap."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dlm.config.schema import (
    DataConfig,
    FewShotConfig,
    LengthConfig,
    MixtureConfig,
    ObjectiveConfig,
    SourceConfig,
    StageConfig,
    TrainConfig,
)
from dlm.data.modules import RowsDataModule
from dlm.errors import UserError
from dlm.models.build import build_from_scratch
from dlm.recipe.fingerprint import identify
from dlm.recipe.kinds import data_identity
from dlm.tokens.special import SpecialTokens
from dlm.tokens.train import train_tokenizer
from dlm.training.builders import length_classes
from dlm.training.data import build_data
from dlm.training.job import StageJob
from dlm.training.rows_report import class_notes, data_notes, rows_read
from dlm.training.sources import build_examples
from dlm.training.start import StartingPoint

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
ROWS = {
    name: [{"src": f"{name} {word}", "tgt": word} for word in WORDS[:count]]
    for name, count in (("a", 10), ("b", 4))
}


@pytest.fixture(scope="module")
def start() -> StartingPoint:
    tokenizer = train_tokenizer([*WORDS, "a b"] * 20, algorithm="bpe", vocab_size=80)
    backbone = build_from_scratch(
        tokenizer, architecture="bert", hidden_size=16, num_layers=1, num_heads=2,
        intermediate_size=16, max_positions=128, dropout=0.0, seed=0,
    )  # fmt: skip
    return StartingPoint(backbone, tokenizer, SpecialTokens.of(tokenizer), None)


def config_of(directory: Path, **data: Any) -> StageConfig:
    for name, rows in ROWS.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / f"{name}.jsonl").write_text(text)
    given: dict[str, Any] = {
        "root": str(directory),
        "max_length": 128,
        "train": [SourceConfig(name=name, path=f"{name}.jsonl") for name in ROWS],
    }
    return StageConfig(
        kind="adapt", seed=0, data=DataConfig(**(given | data)),
        train=TrainConfig(global_batch_size=8, length_grouping=4),
    )  # fmt: skip


def build(
    config: StageConfig, start: StartingPoint, sets: tuple[tuple[str, str | None], ...] = ()
) -> RowsDataModule:
    return build_data(StageJob("r", "s", config, 0, "", Path(), {}, sets), start)


def pairs_of(config: StageConfig) -> list[tuple[str, str]]:
    """Prompts and responses of the training examples."""
    return [(e.prompt, e.response) for _, e in build_examples(config)[0].stream(Counter())]


def texts_of(data: RowsDataModule) -> list[tuple[str, str]]:
    """Prompts and responses of the training rows, from their tokens."""
    every = np.arange(len(data.train_rows))
    firsts = data.train_rows.prompt_lengths[every].tolist()
    return [
        (str(data.tokenizer.decode(row[1 : first - 1])), str(data.tokenizer.decode(row[first:-1])))
        for row, first in zip(data.train_rows.read(every), firsts, strict=True)
    ]


def test_a_mixture_is_drawn_as_it_says_and_what_was_drawn_is_kept(
    tmp_path: Path, start: StartingPoint
) -> None:
    mixture = MixtureConfig(weights={"a": 0.25, "b": 0.75})
    data = build(config_of(tmp_path, mixture=mixture), start)
    sources = rows_read(data, steps=128)["sources"]  # 1,024 draws: a block
    assert {name: row["rows"] for name, row in sources.items()} == {"a": 10, "b": 4}
    drawn = {"a": 0, "b": 0}
    texts = texts_of(data)
    for step in range(128):
        for position in data.order.batch(step):
            row = int(position) % len(data.train_rows)
            drawn[texts[row][0][0]] += 1
    assert {name: row["draws"] for name, row in sources.items()} == drawn
    assert abs(drawn["b"] - 768) <= 1
    assert "mixture: a 25.0% (10 rows), b 75.0% (4 rows)" in data_notes(data)
    copies = [note for note in data_notes(data) if "more than once" in note]
    assert len(copies) == 1 and "source 'b' has 4 rows, and about 6 in a batch" in copies[0]


def test_more_places_in_a_batch_than_rows_are_said(tmp_path: Path, start: StartingPoint) -> None:
    config = config_of(tmp_path)
    for size, said in ((14, False), (16, True)):
        few = replace(config, train=TrainConfig(global_batch_size=size))
        notes = data_notes(build(few, start))
        assert any("14 rows for batches of about 16" in note for note in notes) == said


def test_a_checkpoint_with_another_order_of_rows_says_so(
    tmp_path: Path, start: StartingPoint
) -> None:
    data = build(config_of(tmp_path), start)
    said: list[str] = []
    data._say = said.append
    data.trainer = SimpleNamespace(global_step=3, is_global_zero=True)  # type: ignore[assignment]
    state = data.state_dict()
    data.load_state_dict(state)
    assert not said
    data.load_state_dict({"samples_consumed": 24, "window": [1, 3]})
    assert "another order of rows" in said[0] and data._known_window == (0, 0)


@pytest.mark.parametrize(
    "train",
    [
        TrainConfig(global_batch_size=8, length_grouping=4),
        TrainConfig(global_batch_size=8, length_grouping=0),
        TrainConfig(global_batch_tokens=90, length_grouping=4),
        TrainConfig(global_batch_tokens=90, length_grouping=0),
    ],
)
@pytest.mark.parametrize("steps", [0, 3, 8, 61])
def test_draws_are_counted_as_the_steps_read_them(
    train: TrainConfig, steps: int, tmp_path: Path, start: StartingPoint
) -> None:
    mixture = MixtureConfig(weights={"a": 0.4, "b": 0.6})
    data = build(replace(config_of(tmp_path, mixture=mixture), train=train), start)
    rows = len(data.train_rows)
    drawn = [int(p) % rows < 10 for step in range(steps) for p in data.order.batch(step)]
    assert data.draws_of_sources(steps) == [sum(drawn), len(drawn) - sum(drawn)]


def test_without_a_mixture_every_row_comes_once_an_epoch(
    tmp_path: Path, start: StartingPoint
) -> None:
    data = build(config_of(tmp_path), start)
    positions = np.concatenate([data.order.batch(step) for step in range(28)])
    assert data.mixture is None and "sources" not in rows_read(data, steps=28)
    assert np.bincount(positions % 14).tolist() == [16] * 14


def test_a_source_without_rows_cannot_be_mixed(tmp_path: Path, start: StartingPoint) -> None:
    names = {"a": "a.jsonl", "again": "a.jsonl"}
    train = [SourceConfig(name=name, path=path) for name, path in names.items()]
    config = config_of(
        tmp_path, train=train, deduplicate=True, mixture=MixtureConfig(temperature=2.0)
    )
    with pytest.raises(UserError, match="source 'again' has no row left to draw from"):
        build(config, start)


def test_demonstrations_stand_before_training_and_validation_prompts(
    tmp_path: Path, start: StartingPoint
) -> None:
    few_shot = FewShotConfig(count=1, source="b", separator=" | ", joiner=" > ")
    validation = [SourceConfig(path="a.jsonl")]
    config = config_of(tmp_path, few_shot=few_shot, validation=validation)
    data, prompts = build(config, start), [prompt for prompt, _ in pairs_of(config)]
    assert data.validation_rows is not None
    assert data.validation_rows.prompts == prompts[:10]
    assert all(prompt.startswith("b ") for prompt in prompts)


def test_long_prompts_lose_their_beginning_and_long_responses_their_row(
    tmp_path: Path, start: StartingPoint
) -> None:
    rows = [
        {"src": " ".join(WORDS), "tgt": "ten"},
        {"src": "one", "tgt": " ".join(WORDS * 3)},
        {"src": "nine", "tgt": "nine"},
    ]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = [SourceConfig(path="long.jsonl")]
    config = config_of(tmp_path, train=train, max_length=10, too_long="truncate_prompt")
    data = build(config, start)
    (cut, ten), nine = texts_of(data)
    assert (ten, nine) == ("ten", ("nine", "nine"))
    assert cut == " ".join(WORDS[-6:]), "begin, end, the answer and its end take four of ten"
    assert +data.counts == {"cut_prompts": 1, "dropped_rows": 1}
    assert "1 prompts are too long, and lost their beginning" in data_notes(data)
    dropped = build(config_of(tmp_path, train=train, max_length=10, too_long="drop"), start)
    assert texts_of(dropped) == [("nine", "nine")]


def test_text_of_the_evaluation_sets_is_reported_or_refused(
    tmp_path: Path, start: StartingPoint
) -> None:
    (tmp_path / "test.jsonl").write_text('{"src": "say a three now", "tgt": "three"}\n')
    task = tmp_path / "held.yaml"
    task.write_text("version: 1\nsource: {path: test.jsonl}\nmetrics: [bleu]\n")
    sets = ((str(task), str(tmp_path)),)
    config = config_of(tmp_path, overlap="report", overlap_words=2)
    data = build(config, start, sets)
    found = {"training_rows": 1, "evaluation_rows": 1, "of": 1}
    assert rows_read(data, steps=1)["overlap"] == {"held": found}
    line = "1 training rows share 2 words or more with 1 of the 1 rows of held"
    assert line in data_notes(data)
    with pytest.raises(UserError, match=r"a\.jsonl, line 3 and row 1 of held"):
        build(config_of(tmp_path, overlap="refuse", overlap_words=2), start, sets)
    with pytest.raises(UserError, match="the recipe has no evaluate stage to compare with"):
        build(config, start)


def test_texts_and_pairs_do_not_train_together(tmp_path: Path, start: StartingPoint) -> None:
    train = [SourceConfig(path="a.jsonl"), SourceConfig(path="b.jsonl", task="text")]
    with pytest.raises(UserError, match="texts and rows with a prompt do not train together"):
        build(config_of(tmp_path, train=train), start)


def test_a_source_has_a_task_and_a_template_of_its_own(
    tmp_path: Path, start: StartingPoint
) -> None:
    (tmp_path / "sums.jsonl").write_text('{"question": "one", "answer": 2}\n')
    train = [
        SourceConfig(path="b.jsonl", limit=1),
        SourceConfig(path="b.jsonl", limit=1, prompt="Say {src}"),
        SourceConfig(path="sums.jsonl", task="math"),
    ]
    config = config_of(tmp_path, train=train, prompt="To {src}")
    assert pairs_of(config) == [
        ("To b one", "one"),
        ("Say b one", "one"),
        ("Question: one\n\nAnswer:", "2"),
    ]
    assert len(build(config, start).train_rows) == 3


def test_names_decide_a_stage_only_where_settings_refer_to_them(tmp_path: Path) -> None:
    def key(names: tuple[str, str], **data: Any) -> str:
        train = [
            SourceConfig(name=name, path=f"{path}.jsonl")
            for name, path in zip(names, ROWS, strict=True)
        ]
        config = config_of(tmp_path, train=train, **data)
        return identify(config, {}, data_identity(config)).fingerprint

    assert key(("x", "y")) == key(("y", "x"))
    weights = {"mixture": MixtureConfig(weights={"x": 1.0, "y": 2.0})}
    assert key(("x", "y"), **weights) != key(("y", "x"), **weights)
    assert key(("x", "y"), overlap="report") == key(("x", "y"))
    assert key(("x", "y"), deduplicate=True) != key(("x", "y"))


@pytest.mark.parametrize(("responses", "classes"), [([3, 7], 32), ([32, 5], 32), ([33, 5], 64)])
def test_a_length_predictor_has_classes_for_the_rows(
    responses: list[int], classes: int, tmp_path: Path, start: StartingPoint
) -> None:
    (tmp_path / "long.jsonl").write_text(
        "".join(json.dumps({"src": "one", "tgt": " ".join(["two"] * n)}) + "\n" for n in responses)
    )
    config = config_of(tmp_path, train=[SourceConfig(path="long.jsonl")])
    config = replace(config, kind="length")
    data = build(config, start)
    assert length_classes(config, data) == classes and not class_notes(data, classes)
    asked = replace(config, length=LengthConfig(max_response_length=6))
    assert length_classes(asked, data) == 6
    [note] = class_notes(data, 6)
    assert f"{sum(n > 6 for n in responses)} training rows have more than 6 tokens" in note


@pytest.mark.parametrize(("normaliser", "asked"), [("masked_tokens", True), ("maskable", False)])
def test_batches_know_their_step_where_the_loss_is_divided_by_its_masks(
    normaliser: Any, asked: bool, tmp_path: Path, start: StartingPoint
) -> None:
    objective = ObjectiveConfig(normaliser=normaliser)
    data = build(replace(config_of(tmp_path), objective=objective), start)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_step=0,
        global_rank=0,
        world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    batch = next(iter(data.train_dataloader()))
    assert (batch.step is not None) == asked
    if batch.step is not None:
        assert sorted(batch.step.positions) == sorted(batch.sample_B.tolist())
