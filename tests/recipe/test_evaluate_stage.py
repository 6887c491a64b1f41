"""Stage kind evaluate refuses before it works."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from dlm.config.schema import EvaluationConfig, HardwareConfig, StageConfig, SystemConfig
from dlm.errors import UserError
from dlm.recipe import evaluate_stage as module
from dlm.training.job import StageJob


def test_the_last_system_is_refused_before_the_first_one_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = SystemConfig("a", {"length": "oracle"}), SystemConfig("b")
    config = StageConfig(
        kind="evaluate",
        evaluation=EvaluationConfig({"first": first, "last": last}, ["numbers_en_de"], limit=2),
        hardware=HardwareConfig(accelerator="cpu"),
    )
    model = SimpleNamespace(
        kind="diffusion", length_predictor=None, tokenizer=None, canvas_length=None,
        backbone=SimpleNamespace(longest_prompt=lambda response: 512), heads=lambda prompts: [],
    )  # fmt: skip
    monkeypatch.setattr(module, "open_model", lambda *_, **__: model)
    monkeypatch.setattr(module, "evaluate_system", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(UserError, match="system 'last', task numbers_en_de: it has no length pred"):
        module.evaluate_stage(StageJob("r", "scores", config, 0, "", tmp_path, {}))
