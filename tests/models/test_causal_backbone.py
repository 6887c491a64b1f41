"""Causal language models as backbones: truly bidirectional, shifted, with a mask token."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_attention import changed, moved, response_of
from tiny_backbones import ENCODERS, body_of, from_scratch, padded, random_rows, tiny_backbone
from tiny_causal import (
    CAUSAL,
    causal_backbone,
    causal_tokenizer,
    tiny_network,
    write_directory,
)
from torch import Tensor
from transformers import AutoModelForCausalLM, BertConfig, BertModel

from dlm.errors import UserError
from dlm.models.added_tokens import add_missing_tokens
from dlm.models.attention.annealing import Annealing
from dlm.models.attention.masks import response_of as response_from_tokens
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone, load_tokenizer
from dlm.models.families import FAMILIES, is_causal
from dlm.models.shift import predicts, previous_token, shift_right
from dlm.tokens.special import SpecialTokens

every_causal = pytest.mark.parametrize("model_type", CAUSAL)
every_supported = pytest.mark.parametrize(
    "model_type", [kind for kind in FAMILIES if is_causal(kind)]
)
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}
LENGTH = 8


def states(backbone: Backbone, row: list[int], pattern: str, prompt: int = 3) -> Tensor:
    tokens, valid = padded([row])
    with torch.no_grad():
        return backbone.hidden(
            tokens,
            valid,
            attention=pattern,  # type: ignore[arg-type]
            response_BL=response_of([prompt], valid),
        )[0]


def all_moved(backbone: Backbone, pattern: str, prompt: int = 3) -> list[list[int]]:
    """For every token of a row: the positions whose state moves when it changes."""
    (row,) = random_rows([LENGTH])
    before = states(backbone, row, pattern, prompt)
    return [
        moved(before, states(backbone, changed(row, place), pattern, prompt))
        for place in range(LENGTH)
    ]


# --- what the network sees -----------------------------------------------------------------------


@every_supported
def test_a_later_token_moves_every_earlier_state_when_attention_is_bidirectional(
    model_type: str,
) -> None:
    backbone = causal_backbone(model_type)
    assert all_moved(backbone, "bidirectional") == [list(range(LENGTH))] * LENGTH


@every_supported
def test_a_token_moves_only_itself_and_what_follows_when_attention_is_causal(
    model_type: str,
) -> None:
    expected = [list(range(place, LENGTH)) for place in range(LENGTH)]
    assert all_moved(causal_backbone(model_type), "causal") == expected
    assert all_moved(causal_backbone(model_type), "prefix_causal", prompt=0) == expected


@every_causal
@pytest.mark.parametrize("prompt", [1, 3, LENGTH])
def test_prefix_lm_hides_the_response_from_the_prompt_and_shows_the_response_everything(
    model_type: str, prompt: int
) -> None:
    """The prompt's last token is seen where it is needed, in predicting the response."""
    found = all_moved(causal_backbone(model_type), "prefix_lm", prompt)
    whole, response = list(range(LENGTH)), list(range(prompt, LENGTH))
    for place in range(LENGTH):
        hidden_from_prompt = place >= prompt - 1 and prompt < LENGTH
        # A row's first state is its own: with one token of prompt it predicts the response too.
        seen = ([0] if prompt == 1 else []) + response if hidden_from_prompt else whole
        assert found[place] == seen, place


@pytest.mark.parametrize("architecture", ENCODERS)
def test_prefix_lm_of_a_masked_language_model_hides_the_response_from_the_prompt(
    architecture: str,
) -> None:
    found = all_moved(tiny_backbone(architecture), "prefix_lm", prompt=3)
    assert found == [list(range(LENGTH))] * 3 + [list(range(3, LENGTH))] * (LENGTH - 3)


@every_causal
@torch.no_grad()
def test_the_backbones_own_pattern_finds_the_response_behind_the_prompts_end(
    model_type: str,
) -> None:
    backbone = causal_backbone(model_type)
    backbone.attention, backbone.end_token_id = "prefix_lm", 4
    tokens, valid = padded([[4, 10, 11, 4, 20, 21, 4], [4, 10, 4, 22, 4]])
    response = response_of([4, 3], valid)
    given = backbone.hidden(tokens, valid, response_BL=response)
    assert torch.equal(backbone.hidden(tokens, valid), given)
    assert not torch.equal(backbone.hidden(tokens, valid, attention="bidirectional"), given)


# --- the shift -----------------------------------------------------------------------------------


@every_supported
@torch.no_grad()
def test_causal_states_give_hugging_faces_own_next_token_logits(model_type: str) -> None:
    backbone = causal_backbone(model_type)
    (row,) = random_rows([9])
    tokens, valid = padded([row])
    expected = backbone.network(input_ids=tokens).logits
    assert expected.std() > 0.1
    got = backbone.logits(backbone.hidden(tokens, valid, attention="causal"))
    torch.testing.assert_close(got, expected, **CLOSE)


@every_causal
@torch.no_grad()
def test_logits_of_a_position_come_from_the_state_of_the_token_before(model_type: str) -> None:
    """With the future out of sight, what fills in token i is Hugging Face's prediction at i-1."""
    backbone = causal_backbone(model_type).train()
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    backbone.annealing = Annealing(steps=10, seed=0)  # at step 0 nothing of the future is seen
    tokens, valid = padded(random_rows([9]))
    expected = backbone.network(input_ids=tokens).logits
    got = backbone.logits(backbone.hidden(tokens, valid))
    torch.testing.assert_close(got[:, 1:], expected[:, :-1], **CLOSE)
    torch.testing.assert_close(got[:, 0], expected[:, 0], **CLOSE)


@every_causal
@torch.no_grad()
@pytest.mark.parametrize("pattern", ["bidirectional", "prefix_lm", "causal", "prefix_causal"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_gives_the_same_states(
    model_type: str, side: str, pattern: str
) -> None:
    backbone = causal_backbone(model_type)
    rows, prompts = random_rows([9, 3, 6]), [4, 0, 1]
    tokens, valid = padded(rows, side, extra=3)
    hidden = backbone.hidden(
        tokens,
        valid,
        attention=pattern,  # type: ignore[arg-type]
        response_BL=response_of(prompts, valid),
    )
    assert hidden.isfinite().all()
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        alone = states(backbone, row, pattern, prompt)
        torch.testing.assert_close(hidden[number, valid[number]], alone, **CLOSE)


def test_the_token_before_is_the_valid_one_before() -> None:
    valid = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 1]]).bool()
    previous = previous_token(valid)
    for row in range(3):
        for place in range(5):
            if valid[row, place]:
                before = [other for other in range(place) if valid[row, other]]
                assert int(previous[row, place]) == (before[-1] if before else place)
    hidden = torch.arange(15.0).view(3, 5, 1)
    assert torch.equal(shift_right(hidden, valid), hidden.gather(1, previous[..., None]))


def test_the_state_that_predicts_the_first_response_token_counts_as_response() -> None:
    valid = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]).bool()
    response = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]).bool()
    expected = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]).bool()
    assert torch.equal(predicts(response, valid), expected)


def test_the_response_is_what_follows_the_prompts_end_token() -> None:
    for side in ("right", "left"):
        tokens, valid = padded([[4, 10, 4, 20, 4], [9, 10, 4], [4, 10, 11, 4], [9, 4, 7, 4]], side)
        assert torch.equal(response_from_tokens(tokens, valid, 4), response_of([3, 3, 4, 2], valid))


# --- annealing -----------------------------------------------------------------------------------


def test_the_visible_share_of_the_future_grows_from_none_to_all() -> None:
    annealing = Annealing(steps=10, seed=3)
    index = torch.arange(60)[None]
    future = torch.ones(60, 60).triu(1).bool()
    for step in (0, 1, 5, 9, 10, 25):
        visible = annealing.visible(step, index)[0, 0]
        assert visible[~future].all()
        count, share = int(future.sum()), min(1.0, step / 10)
        bound = 4 * (share * (1 - share) / count) ** 0.5
        assert abs(float(visible[future].float().mean()) - share) <= bound


def test_annealing_is_drawn_for_seed_step_and_token_numbers_alone() -> None:
    annealing = Annealing(steps=10, seed=3)
    _, valid = padded(random_rows([7, 4]), "left", extra=2)
    index = (valid.cumsum(dim=1) - 1).clamp(min=0)
    left = annealing.visible(5, index)[:, 0]
    alone = annealing.visible(5, torch.arange(7)[None])[0, 0]
    assert torch.equal(left[0, 2:, 2:], alone) and torch.equal(left[1, 5:, 5:], alone[:4, :4])
    assert not torch.equal(annealing.visible(6, torch.arange(7)[None])[0, 0], alone)
    other = Annealing(steps=10, seed=4).visible(5, torch.arange(7)[None])[0, 0]
    assert not torch.equal(other, alone)


@every_causal
def test_annealing_counts_in_training_alone(model_type: str) -> None:
    backbone = causal_backbone(model_type)
    backbone.annealing, backbone.step = Annealing(steps=10, seed=0), 0
    assert all_moved(backbone, "bidirectional") == [list(range(LENGTH))] * LENGTH
    for module in backbone.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    # Causal, and each state handed on to the position that it predicts.
    expected = [list(range(place + 1, LENGTH)) for place in range(LENGTH)]
    expected[0] = list(range(LENGTH))
    assert all_moved(backbone, "bidirectional") == expected
    backbone.step = 10
    assert all_moved(backbone, "bidirectional") == [list(range(LENGTH))] * LENGTH


# --- the mask token ------------------------------------------------------------------------------


@every_causal
def test_missing_tokens_are_added_with_rows_for_them_and_ties_stay(model_type: str) -> None:
    tokenizer = causal_tokenizer(model_type)
    known = len(tokenizer)
    network = tiny_network(model_type, known)
    tied = network.config.tie_word_embeddings
    before = network.get_input_embeddings().get_parameter("weight").detach().clone()
    with pytest.raises(UserError, match=r"no (pad and no )?mask token"):
        SpecialTokens.of(tokenizer)
    added = add_missing_tokens(tokenizer, network, seed=0)
    assert added == (["<mask>"] if model_type == "qwen2" else ["<mask>", "<pad>"])
    special = SpecialTokens.of(tokenizer)
    assert special.mask == known and len({special.mask, special.pad, special.end}) > 1
    assert special.begin == (0 if model_type == "llama" else special.end)
    inputs, outputs = network.get_input_embeddings(), network.get_output_embeddings()
    assert inputs.weight.shape == outputs.weight.shape == (len(tokenizer), 16)
    assert network.config.vocab_size == len(tokenizer)
    assert (inputs.weight is outputs.weight) == tied == (model_type == "gpt2")
    assert torch.equal(inputs.get_parameter("weight")[:known], before)
    assert tokenizer("a <mask>", split_special_tokens=True)["input_ids"].count(special.mask) == 0
    assert tokenizer("the red fox ran")["input_ids"].count(tokenizer.unk_token_id) == 0
    assert add_missing_tokens(tokenizer, network, seed=0) == []


@every_causal
def test_new_rows_are_a_function_of_the_seed_alone_and_of_ordinary_size(model_type: str) -> None:
    def rows(seed: int, other_past: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(other_past)
        tokenizer = causal_tokenizer(model_type)
        network = tiny_network(model_type, len(tokenizer))
        state = torch.get_rng_state()
        known = len(tokenizer)
        add_missing_tokens(tokenizer, network, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        layers = (network.get_input_embeddings(), network.get_output_embeddings())
        for layer in layers:
            weight = layer.get_parameter("weight").detach()
            old, new = weight[:known], weight[known:]
            assert 0.5 < float(new.std() / old.std()) < 1.5
        first, last = (layer.get_parameter("weight")[known:].detach() for layer in layers)
        return first, last

    first, same, other = rows(0, 5), rows(0, 6), rows(1, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_spare_rows_of_the_vocabulary_are_used_before_it_grows() -> None:
    tokenizer = causal_tokenizer("qwen2")
    network = tiny_network("qwen2", len(tokenizer) + 8)
    before = network.get_input_embeddings().get_parameter("weight")[-8:].detach().clone()
    add_missing_tokens(tokenizer, network, seed=0)
    after = network.get_input_embeddings().get_parameter("weight")[-8:]
    assert network.config.vocab_size == len(tokenizer) + 7
    assert not torch.equal(after[0], before[0]) and torch.equal(after[1:], before[1:])


# --- loading and saving --------------------------------------------------------------------------


@every_causal
@torch.no_grad()
def test_a_saved_causal_backbone_reads_back_with_identical_logits(
    model_type: str, tmp_path: Path
) -> None:
    write_directory(tmp_path / "plain", model_type)
    backbone = load_backbone(tmp_path / "plain")
    assert backbone.training and backbone.causal and backbone.shifted
    assert all(p.dtype == torch.float32 for p in backbone.parameters())
    tokenizer = load_tokenizer(tmp_path / "plain")
    add_missing_tokens(tokenizer, backbone.network, seed=0)
    backbone.eval().save(tmp_path / "ours")
    tokenizer.save_pretrained(tmp_path / "ours")
    again = load_backbone(tmp_path / "ours").eval()
    reloaded = load_tokenizer(tmp_path / "ours")
    assert SpecialTokens.of(reloaded) == SpecialTokens.of(tokenizer)
    assert len(reloaded) == len(tokenizer) == again.vocab_size
    tokens, valid = padded(random_rows([9, 4]))
    tokens[0, 3] = SpecialTokens.of(tokenizer).mask
    logits = backbone.logits(backbone.hidden(tokens, valid))
    assert torch.equal(again.logits(again.hidden(tokens, valid)), logits)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    expected = backbone.logits(backbone.hidden(tokens[:1], valid[:1], attention="causal"))
    torch.testing.assert_close(plain(input_ids=tokens[:1]).logits, expected, **CLOSE)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_causal_architecture_from_scratch_has_the_sizes_and_the_dropout_asked_for(
    architecture: str, tmp_path: Path
) -> None:
    backbone = from_scratch(architecture, dropout=0.3)
    assert backbone.causal and backbone.max_length == 40 and backbone.hidden_size == 16
    tokens, valid = padded(random_rows([9]))
    assert not torch.equal(backbone.hidden(tokens, valid), backbone.hidden(tokens, valid))
    backbone.save(tmp_path)
    calm = load_backbone(tmp_path, dropout=0.0)
    assert torch.equal(calm.hidden(tokens, valid), calm.hidden(tokens, valid))
    feed_forward = [p.shape for n, p in backbone.named_parameters() if "mlp" in n and p.dim() == 2]
    assert all(32 in shape for shape in feed_forward)


def test_an_encoder_without_its_output_layer_is_refused_by_the_missing_names(
    tmp_path: Path,
) -> None:
    BertModel(
        BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=8,
        )
    ).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(UserError, match=r"saved as BertModel.*has no weights for cls\.predictions"):
        load_backbone(tmp_path)


def test_a_causal_model_without_its_own_output_layer_is_refused_a_tied_one_is_not(
    tmp_path: Path,
) -> None:
    for model_type in ("llama", "gpt2"):
        body_of(tiny_network(model_type)).save_pretrained(tmp_path / model_type)
    with pytest.raises(UserError, match=r"has no weights for lm_head\.weight"):
        load_backbone(tmp_path / "llama")
    assert load_backbone(tmp_path / "gpt2").causal


def test_a_type_that_is_not_supported_is_refused_before_its_weights_are_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(UserError, match=r"type 't5' are not supported.*gpt2"):
        load_backbone(tmp_path)
