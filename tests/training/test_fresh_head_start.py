"""Where a stage's output layer is begun anew, and where one that was trained is gone on with."""

from pathlib import Path

import pytest
import torch
from family_tools import write_family
from transformers import AutoModel

from dlm.config.schema import ModelConfig, StageConfig
from dlm.training.job import StageJob
from dlm.training.start import StartingPoint, starting_point

HEAD = "network.cls.predictions.transform.dense.weight"


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A directory as of BertModel: the body and its tokenizer."""
    place = write_family(tmp_path / "encoder", "bert")
    AutoModel.from_pretrained(place, add_pooling_layer=False).save_pretrained(place)
    return place


def start(encoder: Path, *, seed: int, init_from: str | None = None) -> StartingPoint:
    model = ModelConfig(pretrained=str(encoder), fresh_head=True)
    config = StageConfig(kind="pretrain", model=model, init_from=init_from)
    exports = {} if init_from is None else {init_from: encoder.parent / init_from}
    return starting_point(StageJob("recipe", "stage", config, seed, "", encoder.parent, exports))


def test_the_stages_seed_draws_the_head_and_a_line_says_so(
    encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, other = (start(encoder, seed=seed).backbone.state_dict() for seed in (1, 1, 2))
    assert torch.equal(one[HEAD], two[HEAD]) and not torch.equal(one[HEAD], other[HEAD])
    assert "stage: the model" in (said := capsys.readouterr().out)
    assert "fresh, from seed 2: " in said and HEAD.removeprefix("network.") in said


def test_a_stage_after_it_goes_on_with_the_head_although_it_inherits_the_setting(
    encoder: Path,
) -> None:
    first = start(encoder, seed=1)
    first.backbone.save(encoder.parent / "pretrain")
    first.tokenizer.save_pretrained(encoder.parent / "pretrain")
    then = start(encoder, seed=2, init_from="pretrain")
    assert torch.equal(then.backbone.state_dict()[HEAD], first.backbone.state_dict()[HEAD])
