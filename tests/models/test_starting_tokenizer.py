"""Rows are prepared with the tokenizer that training starts with, and without its network."""

from pathlib import Path

import pytest
from tiny_causal import CAUSAL, write_directory

from dlm.config.schema import ModelConfig, StageConfig
from dlm.data.rows.shards.encoder import RowEncoder
from dlm.errors import UserError
from dlm.training.job import StageJob
from dlm.training.start import starting_point, starting_tokenizer


def job_of(place: Path, directory: Path, **model: str) -> StageJob:
    config = StageConfig(kind="adapt", model=ModelConfig(pretrained=str(place), **model))  # type: ignore[arg-type]
    return StageJob("recipe", "adapt", config, 0, "", directory, {})


@pytest.mark.parametrize("model_type", CAUSAL)
def test_a_causal_models_tokenizer_is_given_the_same_tokens(
    model_type: str, tmp_path: Path
) -> None:
    write_directory(tmp_path / "model", model_type)
    job = job_of(tmp_path / "model", tmp_path)
    tokenizer, max_positions = starting_tokenizer(job)
    start = starting_point(job)
    assert max_positions == start.backbone.max_length
    assert tokenizer.mask_token_id == start.special.mask
    ours, theirs = (RowEncoder(t) for t in (tokenizer, start.tokenizer))
    assert ours.identity == theirs.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [('"model_type": "bogus"', "cannot be loaded"), ('"model_type": "t5"', "not supported")],
)
def test_a_directory_that_is_no_model_of_ours_is_named(
    change: str, message: str, tmp_path: Path
) -> None:
    write_directory(tmp_path / "model", "gpt2")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"model_type": "gpt2"', change))
    with pytest.raises(UserError, match=message):
        starting_tokenizer(job_of(tmp_path / "model", tmp_path))
