"""A network cut to some tokens is the same network on them, and can be made whole again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_backbones import ENCODERS, padded, tiny_backbone, tiny_tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from dlm.errors import UserError
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone
from dlm.models.vocabulary import (
    RECORD,
    CutVocabulary,
    cut_network,
    cut_rows_sha256,
    put_back,
    vocabulary_parameters,
)

KINDS = [*ENCODERS, "gpt2", "llama"]
KEPT = [0, 1, 2, 3, 4, *range(7, len(tiny_tokenizer()), 3)]
"""The special tokens, and a third of the others."""
every_kind = pytest.mark.parametrize("kind", KINDS)


def rows(cut: bool) -> tuple[Tensor, Tensor]:
    """Rows of kept tokens, by their ids in the cut or in the whole vocabulary."""
    generator = torch.Generator().manual_seed(0)
    places = [torch.randint(5, len(KEPT), (n,), generator=generator).tolist() for n in (9, 4)]
    return padded(places if cut else [[KEPT[place] for place in row] for row in places])


def cut_backbone(kind: str) -> Backbone:
    backbone = tiny_backbone(kind)
    cut_network(backbone.network, KEPT)
    return backbone


def state(backbone: Backbone) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.state_dict().items()}


@every_kind
@torch.no_grad()
def test_hidden_states_stay_and_logits_are_those_of_the_kept_tokens(kind: str) -> None:
    whole, cut = tiny_backbone(kind), cut_backbone(kind)
    before, after = whole.hidden(*rows(cut=False)), cut.hidden(*rows(cut=True))
    assert torch.equal(before, after)
    assert cut.vocab_size == len(KEPT)
    expected = whole.logits(before)[..., KEPT]
    assert expected.std() > 0.1
    torch.testing.assert_close(cut.logits(after), expected, atol=1e-6, rtol=1e-6)


@every_kind
@torch.no_grad()
def test_losses_are_those_of_a_softmax_over_the_kept_tokens(kind: str) -> None:
    whole, cut = tiny_backbone(kind), cut_backbone(kind)
    (old, valid), (new, _) = rows(cut=False), rows(cut=True)
    losses = cut.token_losses(cut.hidden(new, valid)[valid], new[valid]).cross_entropy_M
    logits = whole.logits(whole.hidden(old, valid)[valid])[..., KEPT]
    expected = torch.nn.functional.cross_entropy(logits, new[valid], reduction="none")
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)


@every_kind
@torch.no_grad()
def test_plain_transformers_reads_it_back(kind: str, tmp_path: Path) -> None:
    cut = cut_backbone(kind)
    cut.save(tmp_path)
    auto = AutoModelForCausalLM if cut.causal else AutoModelForMaskedLM
    loaded: Any = auto.from_pretrained(tmp_path, output_loading_info=True)
    plain, loading = loaded
    assert not any(loading.values())
    assert plain.config.vocab_size == len(KEPT) == plain.get_output_embeddings().out_features
    for name, tensor in cut.network.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name
    untied = plain.get_input_embeddings().weight is not plain.get_output_embeddings().weight
    assert untied == (kind in ("llama", "esmc", "rembert"))
    for backbone in (cut, load_backbone(tmp_path)):
        for parameter in vocabulary_parameters(backbone.network):
            assert len(parameter) == len(KEPT)


@every_kind
def test_a_gradient_reaches_every_cut_parameter(kind: str) -> None:
    cut = cut_backbone(kind)
    tokens, valid = rows(cut=True)
    cut.logits(cut.hidden(tokens, valid)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in vocabulary_parameters(cut.network))


@every_kind
def test_put_back_without_training_it_is_what_it_was(kind: str) -> None:
    before, whole = state(tiny_backbone(kind)), tiny_backbone(kind)
    with torch.no_grad():
        by_row = {id(parameter) for parameter in vocabulary_parameters(whole.network)}
        for parameter in whole.parameters():
            parameter[KEPT if id(parameter) in by_row else slice(None)] = 7
    put_back(whole.network, cut_backbone(kind).network, KEPT)
    assert all(torch.equal(before[name], tensor) for name, tensor in state(whole).items())


def test_the_ids_of_special_tokens_in_the_configuration_follow() -> None:
    backbone = tiny_backbone("bert")
    assert backbone.network.config.eos_token_id == 2
    cut_network(backbone.network, [1, 2, 4, 9])
    config = backbone.network.config
    assert (config.pad_token_id, config.eos_token_id, config.vocab_size) == (0, 1, 4)
    assert config.bos_token_id is None  # its token was cut off
    assert backbone.network.get_input_embeddings().padding_idx == 0


def test_the_hash_of_the_rows_cut_off_is_of_them_alone() -> None:
    backbone = tiny_backbone()
    before = cut_rows_sha256(backbone.network, KEPT)
    weight = backbone.network.get_input_embeddings().get_parameter("weight")
    with torch.no_grad():
        weight[KEPT[-1]] += 1
        assert cut_rows_sha256(backbone.network, KEPT) == before
        weight[5] += 1
    assert cut_rows_sha256(backbone.network, KEPT) != before
    assert cut_network(backbone.network, KEPT) != before


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    record = CutVocabulary("org/model", None, "a", "b", (0, 2))
    record.write(tmp_path)
    assert CutVocabulary.read(tmp_path) == record
    (tmp_path / RECORD).write_text('{"format": 1}')
    with pytest.raises(UserError, match=r"cut_vocabulary.json is damaged .*'source'"):
        CutVocabulary.read(tmp_path)
