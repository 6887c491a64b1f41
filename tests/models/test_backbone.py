"""Backbones: logits where asked, the same on either padding side, and a faithful export."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_backbones import (
    ARCHITECTURES,
    ENCODERS,
    SCRATCH,
    TEXTS,
    from_scratch,
    padded,
    random_rows,
    tiny_backbone,
    tiny_tokenizer,
)
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    RoFormerConfig,
    RoFormerForMaskedLM,
)

from dlm.errors import UserError
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone, load_tokenizer
from dlm.models.families import FAMILIES
from dlm.tokens.special import SpecialTokens

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
every_scratch = pytest.mark.parametrize("architecture", SCRATCH)
every_encoder = pytest.mark.parametrize("architecture", ENCODERS)
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


@every_encoder
@torch.no_grad()
def test_logits_at_chosen_positions_are_the_hugging_face_models_own(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    tokens, valid = padded(random_rows([9, 4, 7]))
    expected = backbone.network(input_ids=tokens, attention_mask=valid.long()).logits
    row, column = torch.tensor([0, 0, 1, 2]), torch.tensor([8, 2, 3, 0])
    got = backbone.logits(backbone.hidden(tokens, valid)[row, column])
    assert got.shape == (4, backbone.vocab_size)
    assert expected[row, column].std() > 0.1
    torch.testing.assert_close(got, expected[row, column], **CLOSE)


@every_encoder
@torch.no_grad()
def test_padding_on_the_left_right_or_not_at_all_gives_the_same_logits(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    rows = random_rows([9, 4, 7])
    for side in ("left", "right"):
        tokens, valid = padded(rows, side, extra=2)
        logits = backbone.logits(backbone.hidden(tokens, valid))
        for number, row in enumerate(rows):
            own_tokens, own_valid = padded([row])
            alone = backbone.logits(backbone.hidden(own_tokens, own_valid))[0]
            torch.testing.assert_close(logits[number, valid[number]], alone, **CLOSE)


@every_encoder
@torch.no_grad()
def test_what_lies_under_the_padding_does_not_matter(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    tokens, valid = padded(random_rows([9, 4]))
    other = torch.where(valid, tokens, 17)
    before, after = backbone.hidden(tokens, valid), backbone.hidden(other, valid)
    torch.testing.assert_close(before[valid], after[valid], **CLOSE)


@every_encoder
@torch.no_grad()
def test_word_order_matters(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    (row,) = random_rows([8])
    swapped = [row[1], row[0], *row[2:]]
    before, after = (backbone.hidden(*padded([r]))[0, -1] for r in (row, swapped))
    assert not torch.allclose(before, after, atol=1e-3)


@every_scratch
@torch.no_grad()
def test_a_sequence_of_max_positions_fits_and_one_more_does_not_for_learnt_positions(
    architecture: str,
) -> None:
    backbone = from_scratch(architecture, max_positions=12)
    assert backbone.max_length == 12
    assert backbone.hidden(*padded(random_rows([12]))).isfinite().all()
    if architecture in ("xlm-roberta", "roberta", "bert", "albert"):
        with pytest.raises((IndexError, RuntimeError)):
            backbone.hidden(*padded(random_rows([13])))


@every_scratch
def test_sizes_are_those_asked_for(architecture: str) -> None:
    backbone = from_scratch(architecture, hidden_size=24, num_layers=3, intermediate_size=None)
    config = backbone.network.config
    assert backbone.hidden_size == 24 and config.num_hidden_layers == 3
    assert config.intermediate_size == 96
    assert backbone.vocab_size == len(tiny_tokenizer())
    special = SpecialTokens.of(tiny_tokenizer())
    assert (config.pad_token_id, config.eos_token_id) == (special.pad, special.end)


@every_encoder
@torch.no_grad()
def test_export_reloads_to_the_same_weights_and_opens_in_transformers(
    architecture: str, tmp_path: Path
) -> None:
    backbone = tiny_backbone(architecture)
    backbone.save(tmp_path)
    reloaded = load_backbone(tmp_path)
    assert reloaded.training
    assert all(p.dtype == torch.float32 for p in reloaded.parameters())
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(reloaded.state_dict()[name], tensor), name
    tokens, valid = padded(random_rows([9, 4]))
    hidden = backbone.hidden(tokens, valid)
    torch.testing.assert_close(reloaded.eval().hidden(tokens, valid)[valid], hidden[valid], **CLOSE)
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    logits = plain(input_ids=tokens, attention_mask=valid.long()).logits
    torch.testing.assert_close(logits[valid], backbone.logits(hidden)[valid], **CLOSE)


@every_scratch
def test_output_layer_stays_tied_to_the_embedding_after_reload(
    architecture: str, tmp_path: Path
) -> None:
    from_scratch(architecture).save(tmp_path)
    network = load_backbone(tmp_path).network
    weights = [
        m.get_parameter("weight")
        for m in (network.get_input_embeddings(), network.get_output_embeddings())
    ]
    assert weights[0].data_ptr() == weights[1].data_ptr()


@every_architecture
def test_weights_from_scratch_are_a_function_of_the_seed_alone(architecture: str) -> None:
    torch.manual_seed(5)
    first = from_scratch(architecture, seed=3).state_dict()
    torch.manual_seed(6)
    second = from_scratch(architecture, seed=3).state_dict()
    other = from_scratch(architecture, seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    embeddings = [
        n
        for n in first
        if n.endswith(("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight"))
    ]
    assert embeddings
    assert all(not torch.equal(first[name], other[name]) for name in embeddings)


@every_architecture
def test_building_leaves_the_global_generator_alone(architecture: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    from_scratch(architecture, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def varies(backbone: Backbone) -> bool:
    """Whether two passes in train mode differ (dropout is on)."""
    tokens, valid = padded(random_rows([9]))
    return not torch.equal(backbone.hidden(tokens, valid), backbone.hidden(tokens, valid))


@every_architecture
def test_a_new_network_is_in_train_mode_with_the_dropout_asked_for(architecture: str) -> None:
    assert varies(from_scratch(architecture, dropout=0.3))
    assert varies(from_scratch(architecture, dropout=None))
    assert not varies(from_scratch(architecture, dropout=0.0))


@every_architecture
def test_a_loaded_network_takes_the_dropout_asked_for_or_its_own(
    architecture: str, tmp_path: Path
) -> None:
    from_scratch(architecture, dropout=0.3).save(tmp_path)
    assert varies(load_backbone(tmp_path))
    assert not varies(load_backbone(tmp_path, dropout=0.0))
    from_scratch(architecture, dropout=0.0).save(tmp_path)
    assert not varies(load_backbone(tmp_path))
    assert varies(load_backbone(tmp_path, dropout=0.3))


@torch.no_grad()
def test_modernbert_from_scratch_attends_globally_in_every_layer() -> None:
    """One layer only: beyond the usual window of 64 positions a token is still seen."""
    backbone = tiny_backbone("modernbert", num_layers=1, max_positions=300)
    (row,) = random_rows([300])
    before = backbone.hidden(*padded([row]))[0, -1]
    row[0] = 5 if row[0] != 5 else 6
    after = backbone.hidden(*padded([row]))[0, -1]
    assert (before - after).abs().max() > 1e-6


def test_an_unsupported_model_type_is_refused_with_those_that_are_supported() -> None:
    config = RoFormerConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    with pytest.raises(UserError, match="type 'roformer' are not supported") as error:
        Backbone(RoFormerForMaskedLM(config))
    assert all(name in str(error.value) for name in FAMILIES)


def test_a_place_that_holds_no_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the model '{tmp_path}' cannot be loaded"):
        load_backbone(tmp_path)
    with pytest.raises(UserError, match=f"the tokenizer '{tmp_path}' cannot be loaded"):
        load_tokenizer(tmp_path)


def test_special_tokens_of_a_trained_tokenizer_are_the_first_ids() -> None:
    assert SpecialTokens.of(tiny_tokenizer()) == SpecialTokens(begin=0, end=2, pad=1, mask=4)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ({"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}, "no mask token"),
        ({"bos_token": "<s>", "mask_token": "<mask>"}, "no end and no pad token"),
    ],
)
def test_a_tokenizer_without_a_needed_token_is_refused(names: dict[str, str], missing: str) -> None:
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<mask>": 3, "a": 4}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "a")), **names
    )
    with pytest.raises(UserError, match=missing):
        SpecialTokens.of(tokenizer)


@pytest.mark.parametrize(
    "names", [{"cls_token": "<s>", "sep_token": "</s>"}, {"bos_token": "<s>", "eos_token": "</s>"}]
)
def test_begin_and_end_are_read_under_either_of_their_names(names: dict[str, str]) -> None:
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<mask>": 3, "a": 4}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "a")),
        pad_token="<pad>", mask_token="<mask>", **names,
    )  # fmt: skip
    assert SpecialTokens.of(tokenizer) == SpecialTokens(begin=0, end=2, pad=1, mask=3)


def test_tokenizer_survives_the_export(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    reloaded = load_tokenizer(tmp_path)
    assert SpecialTokens.of(reloaded) == SpecialTokens.of(tiny_tokenizer())
    for text in TEXTS:
        ids = tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]
        assert reloaded(text, add_special_tokens=False)["input_ids"] == ids
        assert str(reloaded.decode(ids)).strip() == text
    assert AutoTokenizer.from_pretrained(tmp_path).mask_token_id == 4
