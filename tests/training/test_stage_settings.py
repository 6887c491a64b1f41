"""Settings that decide a training step, on tiny networks."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from dlm.config.schema import DataConfig, OptimConfig, SourceConfig, StageConfig, TrainConfig
from dlm.data.batches.batching import BatchRequest, TokenDataset
from dlm.data.batches.order import BatchOrder
from dlm.data.batches.token_budget import longest_row
from dlm.data.examples import ExampleRecipe, TaskSource
from dlm.data.modules import BatchSettings, RowsDataModule
from dlm.data.prompts import Template
from dlm.data.rows.encoding import encode_rows
from dlm.data.sources import Source
from dlm.data.task_modules import InstructionDataModule, TextDataModule
from dlm.diffusion.noise import ForwardProcess
from dlm.diffusion.objective import Objective
from dlm.errors import UserError
from dlm.models.build import build_from_scratch
from dlm.stages.denoising import DenoisingStage
from dlm.stages.optimizer import OptimizerSettings, lr_factor
from dlm.tokens.special import SpecialTokens
from dlm.tokens.train import train_tokenizer
from dlm.training.builders import warmup_steps
from dlm.training.data import build_data, build_rows
from dlm.training.exported_step import scores_answers
from dlm.training.job import StageJob
from dlm.training.rows_report import refuse_unknown_rows, rows_read
from dlm.training.start import StartingPoint

TEXTS = ["one two three four", "two three", "four three two one two"]


@pytest.mark.parametrize("coupled", [True, False])
def test_berts_rule_works_with_one_and_with_two_noise_levels_a_row(coupled: bool) -> None:
    tokenizer = train_tokenizer(TEXTS * 20, algorithm="bpe", vocab_size=40)
    special = SpecialTokens.of(tokenizer)
    backbone = build_from_scratch(
        tokenizer, architecture="bert", hidden_size=16, num_layers=1, num_heads=2,
        intermediate_size=16, max_positions=32, dropout=0.0, seed=0,
    )  # fmt: skip
    stage = DenoisingStage(
        backbone,
        forward_process=ForwardProcess(times="coupled" if coupled else "independent"),
        objective=Objective(),
        mask_token_id=special.mask,
        optimizer=OptimizerSettings(lr=1e-3, steps=1),
        seed=0,
        replaceable_ids=(7, 8, 9),
    )
    rows = encode_rows(tokenizer, [""] * 3, TEXTS, conditional=False)
    request = BatchRequest(np.arange(3), np.arange(3), 3, int(rows.maskable_lengths.sum()))
    batch = TokenDataset(rows, special.pad).__getitems__(request)
    loss = stage.denoising_loss(batch, seed=0)
    assert torch.isfinite(loss.total) and 0 <= loss.accuracy <= 1
    assert 0 < len(loss.right_M) <= (2 if coupled else 1) * int(batch.maskable_BL.sum())


def test_warm_up_defaults_to_one_percent_of_the_steps_and_zero_stays_zero() -> None:
    def config(steps: int, warmup: int | None) -> StageConfig:
        return StageConfig(train=TrainConfig(steps=steps), optim=OptimConfig(warmup_steps=warmup))

    assert warmup_steps(config(3000, None)) == 30
    assert warmup_steps(config(20, None)) == 1
    assert warmup_steps(config(3000, 0)) == 0


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "linear", "cosine", "constant"])
def test_the_learning_rate_peaks_when_warm_up_ends_and_never_rises_again(schedule: str) -> None:
    factor = lr_factor(
        OptimizerSettings(lr=1.0, steps=100, warmup_steps=10, schedule=schedule)  # type: ignore[arg-type]
    )
    warming, after = [factor(step) for step in range(10)], [factor(step) for step in range(10, 101)]
    assert warming == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert after[0] == pytest.approx(1.0)
    assert all(later <= earlier for earlier, later in pairwise(after))
    if schedule == "inverse_sqrt":
        assert factor(40) == pytest.approx(0.5)
    if schedule in ("linear", "cosine"):
        assert factor(100) == pytest.approx(0.0)


def test_tokens_that_the_tokenizer_does_not_know_are_counted() -> None:
    tokenizer = train_tokenizer(TEXTS * 20, algorithm="bpe", vocab_size=40)
    pairs = Source(
        split="train", generator="number_instructions", count=30, options={"tasks": ["digits"]}
    )
    digits = TaskSource("digits", pairs, "instruction", (Template.of("instruction"),))
    data = InstructionDataModule(
        train=ExampleRecipe((digits,)), validation=None, tokenizer=tokenizer, max_length=128,
        too_long="error",
        batches=BatchSettings(
            global_batch_size=4, accumulate=1, validation_batch_size=4, validation_rows=None,
            length_grouping=0, num_workers=0, seed=0,
        ),
    )  # fmt: skip
    assert data.unknown_tokens > 0
    assert rows_read(data, steps=0)["unknown_tokens"] == data.unknown_tokens


def data_of(tmp_path: Path, train: TrainConfig) -> RowsDataModule:
    tokenizer = train_tokenizer(TEXTS * 20, algorithm="bpe", vocab_size=40)
    backbone = build_from_scratch(
        tokenizer, architecture="bert", hidden_size=16, num_layers=1, num_heads=2,
        intermediate_size=16, max_positions=128, dropout=0.0, seed=0,
    )  # fmt: skip
    config = StageConfig(
        kind="adapt", train=train,
        data=DataConfig(train=[SourceConfig(generator="number_pairs", count=40)], max_length=128),
    )  # fmt: skip
    start = StartingPoint(backbone, tokenizer, SpecialTokens.of(tokenizer), None)
    return build_data(StageJob("r", "s", config, 0, "", tmp_path, {}), start)


def test_a_token_budget_too_small_for_its_micro_batches_is_refused_with_what_fits(
    tmp_path: Path,
) -> None:
    def refused(tokens: int, micro: int | None) -> str:
        with pytest.raises(UserError, match="is too little for 1 devices x") as caught:
            data_of(tmp_path, TrainConfig(global_batch_tokens=tokens, micro_batch_tokens=micro))
        return str(caught.value)

    def number(words: str, said: str) -> int:
        return int(re.findall(rf"{words} at least (\d+)", said)[0])

    few = number("use", refused(20, None))
    assert number("use", refused(20, 10)) == few
    assert "and no train.micro_batch_tokens" in refused(20, 10)
    data = data_of(tmp_path, TrainConfig(global_batch_tokens=few))
    assert longest_row(data.train_rows.lengths) == few
    micro = number("set train.micro_batch_tokens to", refused(600, 10))
    data = data_of(tmp_path, TrainConfig(global_batch_tokens=600, micro_batch_tokens=micro))
    assert data.batches.accumulate == 600 // (2 * few)


def test_blocks_that_are_longer_than_the_model_are_refused(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS * 20, algorithm="bpe", vocab_size=40)
    data = DataConfig(train=[SourceConfig(generator="number_text", count=9)], text_blocks=33)
    config = StageConfig(kind="pretrain", init_from="model", data=data)
    with pytest.raises(UserError, match=r"data\.text_blocks=33 is more than the model's 32 pos"):
        build_rows(StageJob("r", "s", config, 0, "", tmp_path, {}), tokenizer, 32)


def test_the_batches_of_a_length_predictor_are_not_of_like_length(tmp_path: Path) -> None:
    """There the length is the label: a batch of like labels teaches the batch, not the prompt."""
    tokenizer = train_tokenizer(TEXTS * 20, algorithm="bpe", vocab_size=40)
    backbone = build_from_scratch(
        tokenizer, architecture="bert", hidden_size=16, num_layers=1, num_heads=2,
        intermediate_size=16, max_positions=128, dropout=0.0, seed=0,
    )  # fmt: skip
    start = StartingPoint(backbone, tokenizer, SpecialTokens.of(tokenizer), None)

    def lengths_in_a_batch(kind: str) -> float:
        config = StageConfig(
            kind=kind,  # type: ignore[arg-type]
            data=DataConfig(
                train=[SourceConfig(generator="number_pairs", count=400)], max_length=128
            ),
            train=TrainConfig(global_batch_size=20, length_grouping=20),
        )
        data = build_data(StageJob("r", "s", config, 0, "", tmp_path, {}), start)
        rows = data.train_rows
        order = BatchOrder(rows.lengths, 20, 0, data.batches.length_grouping)
        batches = [rows.lengths[order.batch(step) % len(rows.lengths)] for step in range(20)]
        return sum(batch.std() for batch in batches) / 20

    assert lengths_in_a_batch("length") > 5 * lengths_in_a_batch("adapt")


@pytest.mark.parametrize(("lowers", "remedy"), [(True, "do_lower_case"), (False, "train one")])
def test_rows_of_unknown_tokens_are_refused_with_the_reason(
    lowers: bool, remedy: str, tmp_path: Path
) -> None:
    """BertTokenizer lowers case where no file says otherwise: a vocabulary of capitals is lost."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "ACDEFGHIKLMNPQRSTVWY" if lowers else "acdefgh"
    tokens = {token: number for number, token in enumerate([*special, *letters])}
    tokenizer = BertTokenizer(vocab=tokens, do_lower_case=lowers)
    (tmp_path / "t.txt").write_text("Q V Q L V E S G G G\nA C D E\n" * 4)
    texts = TaskSource(
        "t", Source(split="", path=tmp_path / "t.txt"), "text", (Template.of("text"),)
    )
    data = TextDataModule(
        train=ExampleRecipe((texts,)), validation=None, tokenizer=tokenizer, max_length=64,
        too_long="error",
        batches=BatchSettings(
            global_batch_size=4, accumulate=1, validation_batch_size=4, validation_rows=None,
            length_grouping=0, num_workers=0, seed=0,
        ),
    )  # fmt: skip
    with pytest.raises(UserError, match=rf"% of the rows' tokens are unknown .*{remedy}"):
        refuse_unknown_rows(data)


@pytest.mark.parametrize(("task", "scores"), [("text", False), ("translation", True)])
def test_texts_have_no_answers_to_generate_at_validation(task: Any, scores: bool) -> None:
    rows = [SourceConfig(path="t.txt")]
    data = DataConfig(task=task, train=rows, validation=rows)
    assert scores_answers(StageConfig(kind="adapt", data=data)) == scores
