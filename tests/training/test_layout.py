"""Where rows are packed when nobody says so."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dlm.config.schema import HardwareConfig, StageConfig, TrainConfig
from dlm.errors import UserError
from dlm.models.attention.annealing import Annealing
from dlm.models.build import build_from_scratch
from dlm.tokens.special import SpecialTokens
from dlm.tokens.train import train_tokenizer
from dlm.training.job import StageJob
from dlm.training.layout import choose_layout
from dlm.training.start import StartingPoint

ON_CPU = HardwareConfig(accelerator="cpu")


def choice(
    kind: Any = "adapt", *, train: TrainConfig | None = None, hardware: HardwareConfig = ON_CPU,
    dropout: float = 0.0, attention: Any = "bidirectional", annealed: bool = False,
) -> tuple[bool, list[str]]:  # fmt: skip
    tokenizer = train_tokenizer(["a b c"] * 20, algorithm="bpe", vocab_size=20)
    backbone = build_from_scratch(
        tokenizer, architecture="bert", hidden_size=16, num_layers=1, num_heads=2,
        intermediate_size=16, max_positions=32, dropout=dropout, seed=0,
    )  # fmt: skip
    backbone.attention = attention
    backbone.annealing = Annealing(10, 0) if annealed else None
    config = StageConfig(kind=kind, train=train or TrainConfig(), hardware=hardware)
    start = StartingPoint(backbone, tokenizer, SpecialTokens.of(tokenizer), None)
    return choose_layout(StageJob("r", "s", config, 0, "", Path(), {}), start)


def test_rows_are_packed_on_a_cpu_unless_the_stage_or_the_recipe_says_otherwise() -> None:
    assert choice("adapt") == choice("pretrain") == choice("instruct") == (True, [])
    assert choice(train=TrainConfig(precision="bf16-mixed"), dropout=0.1) == (True, [])
    assert choice("length") == (False, [])
    assert choice(train=TrainConfig(layout="padded")) == (False, [])
    packed = TrainConfig(layout="packed")
    assert choice("autoregressive", train=packed) == (True, [])


def test_any_pattern_of_attention_is_packed() -> None:
    assert choice("autoregressive") == choice(attention="prefix_lm") == (True, [])


def test_what_needs_a_mask_is_padded_and_said() -> None:
    assert choice(annealed=True) == (
        False, ["rows are padded, not packed: attention is being annealed"]
    )  # fmt: skip


def test_strict_speed_makes_it_an_error() -> None:
    strict = HardwareConfig(accelerator="cpu", strict_speed=True)
    with pytest.raises(UserError, match="attention is being annealed; remove the reason"):
        choice(annealed=True, hardware=strict)
    assert choice(hardware=strict) == (True, [])
    padded = TrainConfig(layout="padded")
    assert choice(annealed=True, hardware=strict, train=padded)[0] is False


def test_a_gpu_packs_in_half_precision_without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    gpu, half = HardwareConfig(accelerator="gpu"), TrainConfig(precision="bf16-mixed")
    assert choice(hardware=gpu, train=half) == (True, [])
    assert "takes bfloat16 and float16, not float32" in choice(hardware=gpu)[1][0]
    said = choice(hardware=gpu, train=half, dropout=0.1)[1][0]
    assert said.endswith("varlen_attn has no dropout, and attention has 0.1 (model.dropout)")
