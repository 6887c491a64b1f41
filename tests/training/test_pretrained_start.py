"""What a real pretrained masked LM brings, in few steps; the recipe's own run is the README's."""

import json
import os
from pathlib import Path

import pytest

from dlm.config.loading import load_recipe
from dlm.recipe.runner import run_recipe

PLACES = ("DLM_REAL_DATA", "DLM_REAL_MODELS")


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(
    any(place not in os.environ for place in PLACES),
    reason="DLM_REAL_DATA and DLM_REAL_MODELS do not name folders of data and models",
)
def test_at_equal_steps_the_pretrained_start_is_far_ahead(tmp_path: Path) -> None:
    data, models = (os.environ[place] for place in PLACES)
    model = f"{models}/bert-tiny-mlm"
    rows = "path: wikisplit/{}.jsonl, limit: {}"
    recipe = load_recipe(
        "wikisplit/bert-tiny",
        [
            f"stages.adapt.model.pretrained={model}",
            f"stages.adapt_scratch.tokenizer={model}",
            f"data.root={data}",
            f"data.train=[{{{rows.format('train', 500)}}}]",
            f"data.validation=[{{{rows.format('valid', 64)}}}]",
            "train={steps: 40, global_batch_size: 8}",
            "optim.warmup_steps=10",
            "validation={every_n_steps: 40, generate_rows: 0, metric: bleu_lowercase}",
        ],
    )
    run = tmp_path / "run"
    assert run_recipe(recipe, run, stop="adapt_scratch", command=["dlm", "run"]) == 0
    loss = {
        stage: json.loads((run / stage / "manifest.json").read_text())["metrics"]["validation_loss"]
        for stage in ("01_adapt", "02_adapt_scratch")
    }
    # Measured: 1.15 and 1.48.
    assert loss["01_adapt"] < 0.85 * loss["02_adapt_scratch"]
