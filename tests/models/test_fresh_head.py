"""Encoders that were saved without an output layer."""

import os
from pathlib import Path

import pytest
import torch
from tiny_backbones import body_of, padded, random_rows, tiny_backbone
from tiny_causal import tiny_network
from torch import Tensor

from dlm.errors import UserError
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone
from dlm.models.fresh_head import FreshHead

ENCODERS = ["bert", "roberta", "modernbert"]


def encoder(place: Path, architecture: str = "bert") -> Path:
    body_of(tiny_backbone(architecture).network).save_pretrained(place)
    return place


def load(place: Path, seed: int = 3) -> tuple[Backbone, str]:
    said: list[str] = []
    backbone = load_backbone(place, fresh_head=FreshHead(seed, said.append))
    (note,) = said
    return backbone, note


def body(backbone: Backbone) -> dict[str, Tensor]:
    return backbone.network.base_model.state_dict()


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_the_body_is_the_files_and_the_head_the_seeds(architecture: str, tmp_path: Path) -> None:
    encoder(tmp_path, architecture)
    one, note = load(tmp_path)
    assert same(body(one), body(tiny_backbone(architecture)))
    state = torch.get_rng_state()
    two, _ = load(tmp_path)
    assert torch.equal(torch.get_rng_state(), state), "draws outside must not notice"
    torch.rand(7)
    assert same(one.state_dict(), two.state_dict())
    other, _ = load(tmp_path, seed=4)
    differs = [k for k, v in one.state_dict().items() if not torch.equal(v, other.state_dict()[k])]
    assert [key.rpartition(".")[2] for key in differs] == ["weight"]  # the dense layer's matrix
    assert differs[0].removeprefix("network.") in note and "seed 3" in note
    matrix = one.state_dict()[differs[0]]
    assert 0.005 < matrix.std() < 0.03  # initializer_range is 0.02; ModernBERT halves it here


@pytest.mark.parametrize("architecture", ENCODERS)
def test_input_and_output_share_their_matrix_and_what_is_saved_reads_back(
    architecture: str, tmp_path: Path
) -> None:
    backbone, _ = load(encoder(tmp_path / "encoder", architecture))
    output = backbone.network.get_output_embeddings()
    assert output.weight is backbone.network.get_input_embeddings().weight
    with torch.no_grad():
        output.bias.normal_()  # one bias too, wherever a family keeps it
    backbone.save(tmp_path / "whole")
    rows = padded(random_rows([9, 6]))
    backbone.eval()
    again = load_backbone(tmp_path / "whole").eval()
    logits = [network.logits(network.hidden(*rows)) for network in (backbone, again)]
    assert torch.equal(*logits)


def test_a_causal_encoder_without_its_own_output_layer_is_given_the_embedding(
    tmp_path: Path,
) -> None:
    body_of(tiny_network("llama")).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"no weights for lm_head\.weight.*model\.fresh_head=true"):
        load_backbone(tmp_path)
    backbone, note = load(tmp_path)
    network = backbone.network
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight
    assert note.endswith("fresh, from seed 3: nothing else")
    backbone.save(tmp_path / "whole")
    assert same(load_backbone(tmp_path / "whole").state_dict(), backbone.state_dict())


def test_without_leave_it_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"saved as BertModel.*random.*model\.fresh_head=true"):
        load_backbone(encoder(tmp_path))


@pytest.mark.parametrize("fresh", [None, FreshHead(0, print)])
def test_what_the_body_lacks_is_never_drawn(fresh: FreshHead | None, tmp_path: Path) -> None:
    network = body_of(tiny_backbone("bert").network)
    state = network.state_dict()
    del state["encoder.layer.1.output.dense.weight"]
    network.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(UserError, match=r"layer\.1\.output\.dense\.weight") as error:
        load_backbone(tmp_path, fresh_head=fresh)
    assert "fresh_head" not in str(error.value) and "cls." not in str(error.value)


def test_a_checkpoint_that_has_an_output_layer_keeps_it(tmp_path: Path) -> None:
    tiny_backbone("bert").save(tmp_path)
    with pytest.raises(UserError, match=r"lacks nothing.*leave model\.fresh_head out"):
        load(tmp_path)


@pytest.mark.real_data
@pytest.mark.skipif("DLM_REAL_MODELS" not in os.environ, reason="DLM_REAL_MODELS is not set")
def test_a_real_encoder_of_half_precision_begins_near_ignorance() -> None:
    backbone, note = load(Path(os.environ["DLM_REAL_MODELS"]) / "minilm-l6")
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float32}
    assert "cls.predictions.transform.dense.weight" in note
    tokens = torch.tensor([[101, 1996, 103, 2743, 102]])  # the [MASK] ran
    logits = backbone.eval().logits(backbone.hidden(tokens, torch.ones_like(tokens).bool()))
    entropy = torch.distributions.Categorical(logits=logits[0, 2]).entropy()
    assert entropy > 8  # of ln 30,522 = 10.3 nats
