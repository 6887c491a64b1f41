"""XLM-R XL and XXL: another model type than BASE and LARGE, with its norms before the layers."""

from pathlib import Path

import pytest
import torch
from tiny_backbones import padded, random_rows, tiny_tokenizer
from transformers import AutoModelForMaskedLM, XLMRobertaXLConfig

from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone, load_config
from dlm.models.packed import Packing

ROWS = random_rows([9, 5, 3])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = XLMRobertaXLConfig(
        vocab_size=len(tiny_tokenizer()), hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=42,
        initializer_range=0.3,
    )  # fmt: skip
    place = tmp_path_factory.mktemp("xl")
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(place)
    return place


@pytest.fixture
def backbone(directory: Path) -> Backbone:
    return load_backbone(directory).eval()


def test_it_loads_with_its_positions_and_head(directory: Path, backbone: Backbone) -> None:
    assert load_config(directory).model_type == "xlm-roberta-xl"
    assert (backbone.max_length, backbone.position_offset) == (40, 2)
    tokens, valid = padded(ROWS)
    theirs = backbone.network(input_ids=tokens, attention_mask=valid.long()).logits
    ours = backbone.logits(backbone.hidden(tokens, valid))
    torch.testing.assert_close(ours[valid], theirs[valid])


def test_padding_on_either_side_and_packing_give_the_same_states(backbone: Backbone) -> None:
    tokens, valid = padded(ROWS)
    expected = backbone.hidden(tokens, valid)[valid]
    left_tokens, left_valid = padded(ROWS, side="left", extra=2)
    torch.testing.assert_close(backbone.hidden(left_tokens, left_valid)[left_valid], expected)
    packing = Packing(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 5]), 2, 9)
    torch.testing.assert_close(backbone.hidden(tokens, valid, packing=packing)[valid], expected)


def test_it_exports_and_reads_back(backbone: Backbone, tmp_path: Path) -> None:
    backbone.save(tmp_path)
    again = load_backbone(tmp_path, dropout=0.3)
    assert again.network.config.hidden_dropout_prob == 0.3
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
