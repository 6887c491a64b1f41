"""What some families of encoders need beside a line in the table."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_backbones import (
    BY_PLACE,
    ENCODERS,
    OWN_ATTENTION,
    of_type,
    padded,
    random_rows,
    tiny_backbone,
    tiny_tokenizer,
)
from transformers import AutoModelForMaskedLM

from dlm.errors import UserError
from dlm.export.diffusion_generate import OFFSET_POSITIONS
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone, load_config
from dlm.models.families import FAMILIES, REFUSED
from dlm.models.outside import config_of_type

CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


def test_the_tests_know_every_encoder_and_what_is_its_own() -> None:
    families = {name: family for name, family in FAMILIES.items() if not family.causal}
    assert {*ENCODERS} == {*families}
    assert {*OWN_ATTENTION} == {name for name, f in families.items() if f.own_attention}
    assert {*BY_PLACE} == {name for name, f in families.items() if f.by_place}


def test_the_script_of_an_export_knows_who_counts_from_the_padding_token() -> None:
    assert {*OFFSET_POSITIONS} == {n for n, family in FAMILIES.items() if family.counts_from_pad}


@pytest.mark.parametrize("family", ENCODERS)
def test_every_parameter_that_is_trained_has_a_gradient(family: str, tmp_path: Path) -> None:
    """DDP waits for those that have none."""
    tiny_backbone(family).save(tmp_path)
    backbone = load_backbone(tmp_path, dropout=0.0)
    tokens, valid = padded(random_rows([9, 7]))
    backbone.logits(backbone.hidden(tokens, valid)).square().sum().backward()
    without = [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("family", OWN_ATTENTION)
def test_attention_of_its_own_says_why_nothing_replaces_it(family: str) -> None:
    backbone = tiny_backbone(family)
    said: list[str] = []
    backbone.say = said.append
    cpu = torch.device("cpu")
    assert not backbone.packs(cpu) and not backbone.caches_prompts(cpu)
    assert len(said) == 2 and all("attends by code of its own" in line for line in said)
    backbone.strict_speed = True
    with pytest.raises(UserError, match=r"hardware.strict_speed: .* code of its own"):
        backbone.packs(cpu)


@pytest.mark.parametrize("model_type", REFUSED)
def test_a_type_that_cannot_be_is_refused_with_the_reason(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UserError, match=f"type '{model_type}' are not supported: ") as error:
        load_config(tmp_path)
    assert str(error.value).endswith(REFUSED[model_type])
    config_of_type(model_type)  # transformers knows it by this name


@pytest.mark.parametrize(
    ("family", "settings", "text"),
    [
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size: 3 .* with 0 alone: its convol"),
        ("deberta-v2", {"legacy": False}, "legacy: False .* with True alone: its head"),
        ("deberta", {"legacy": False}, "legacy: False"),
        ("esm", {"position_embedding_type": "relative_key"}, "knows absolute and rotary positions"),
        ("mpnet", {"pad_token_id": 0}, "pad_token_id: 0 .* with 1 alone"),
    ],
)
def test_a_setting_that_makes_another_network_is_refused(
    family: str, settings: dict[str, Any], text: str, tmp_path: Path
) -> None:
    tiny_backbone(family).save(tmp_path)
    load_config(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(UserError, match=text):
        load_config(tmp_path)


@torch.no_grad()
def logits_of(backbone: Backbone, row: list[int]) -> torch.Tensor:
    return backbone.logits(backbone.hidden(*padded([row])))[0]


@torch.no_grad()
def test_esm_with_absolute_positions_has_its_own_logits() -> None:
    backbone = tiny_backbone("esm", position_embedding_type="absolute")
    tokens, valid = padded(random_rows([9, 4, 7]))
    expected = backbone.network(input_ids=tokens, attention_mask=valid.long()).logits
    got = backbone.logits(backbone.hidden(tokens, valid))
    torch.testing.assert_close(got[valid], expected[valid], **CLOSE)


@torch.no_grad()
def test_the_bias_beside_esms_output_layer_is_in_logits_losses_and_choices() -> None:
    backbone = tiny_backbone("esm")
    bias: Any = backbone.network.lm_head.bias
    bias[7] += 50
    hidden = backbone.hidden(*padded(random_rows([9])))[0]
    logits = backbone.logits(hidden)
    torch.testing.assert_close(logits, backbone.network.lm_head(hidden))
    target = torch.arange(5, 14)
    found = backbone.token_losses(hidden, target).cross_entropy_M
    expected = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(found, expected)
    assert backbone.likeliest(hidden, torch.tensor([0]))[0].tolist() == [7] * 9


@torch.no_grad()
def test_esms_token_dropout_becomes_what_the_network_saw_at_12_percent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = of_type("esm", token_dropout=True, hidden_dropout_prob=0.0).eval()
    made.save(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    loaded = load_backbone(tmp_path).eval()
    assert f"the model '{tmp_path}': token_dropout is off" in capsys.readouterr().err
    mask = tiny_tokenizer().mask_token_id
    (row,) = random_rows([25])
    row[3] = row[7] = row[20] = mask
    expected = plain(torch.tensor([row]), attention_mask=torch.ones(1, 25)).logits[0]
    not_mask = [token for token in range(loaded.vocab_size) if token != mask]
    got = logits_of(loaded, row)
    torch.testing.assert_close(got[:, not_mask], expected[:, not_mask], **CLOSE)
    assert logits_of(loaded, [mask] * 9).isfinite().all()
    assert not loaded.network.config.token_dropout
    with torch.no_grad():  # what was learnt since stays when it is opened again
        loaded.network.get_input_embeddings().get_parameter("weight")[mask] = 0.5
    loaded.save(tmp_path / "again")
    torch.testing.assert_close(logits_of(load_backbone(tmp_path / "again").eval(), row),
                               logits_of(loaded, row))  # fmt: skip
