"""The length predictor sees the prompt alone and belongs to its backbone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_backbones import padded, random_rows, tiny_backbone, tiny_tokenizer
from torch import Tensor

from dlm.data.batches.batching import BatchRequest, TokenBatch, TokenDataset
from dlm.data.rows.encoding import encode_prompts, encode_rows
from dlm.errors import UserError
from dlm.models.length_predictor import (
    LengthPredictor,
    has_length_predictor,
    load_length_predictor,
    top_lengths,
)
from dlm.stages.length import LengthPrediction
from dlm.stages.optimizer import OptimizerSettings

PROMPTS = ["the red fox ran", "a dog", "der hund lief schnell on the mat"]
SHORT = ["a", "fox ran", "der hund"]
OTHER = ["x", "mat red", "ein rot"]
LONG = ["the red fox ran on a mat", "ein roter fuchs lief schnell", "the dog sat on the mat a red"]


def predictor(max_length: int = 12, relative: bool = False) -> LengthPredictor:
    torch.manual_seed(0)
    made = LengthPredictor(16, max_length=max_length, num_heads=2, relative=relative)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.4)
    return made.eval()


def stage(max_length: int = 12) -> LengthPrediction:
    return LengthPrediction(
        tiny_backbone(), predictor(max_length), label_smoothing=0.0, seed=0,
        optimizer=OptimizerSettings(lr=1e-3, steps=1),
    )  # fmt: skip


def batch_of(prompts: list[str], responses: list[str]) -> TokenBatch:
    rows = encode_rows(tiny_tokenizer(), prompts, responses, conditional=True)
    request = BatchRequest(
        np.arange(len(prompts)),
        np.arange(len(prompts)),
        len(prompts),
        int(rows.maskable_lengths.sum()),
    )
    return TokenDataset(rows, pad_token_id=1).__getitems__(request)


@pytest.mark.parametrize("other", [OTHER, LONG])
def test_lengths_do_not_move_when_the_response_changes(other: list[str]) -> None:
    made = stage()
    before, _ = made.predict(batch_of(PROMPTS, SHORT))
    after, _ = made.predict(batch_of(PROMPTS, other))
    assert before.std() > 0.1
    torch.testing.assert_close(before, after, atol=1e-6, rtol=1e-6)


def test_lengths_move_when_the_prompt_changes() -> None:
    made = stage()
    before, _ = made.predict(batch_of(PROMPTS, SHORT))
    after, _ = made.predict(batch_of(["ein roter fuchs", *PROMPTS[1:]], SHORT))
    assert (before[0] - after[0]).abs().max() > 1e-2
    torch.testing.assert_close(before[1:], after[1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_training_sees_what_generation_sees_the_bare_prompt() -> None:
    made = stage()
    logits, _ = made.predict(batch_of(PROMPTS, LONG))
    for row, ids in zip(logits, encode_prompts(tiny_tokenizer(), PROMPTS), strict=True):
        tokens, valid = padded([ids])
        alone = made.predictor(made.backbone.hidden(tokens, valid), valid)[0]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-5)


def test_class_is_the_number_of_response_tokens_without_the_end() -> None:
    tokenizer = tiny_tokenizer()
    made = stage(max_length=5)
    _, length_B = made.predict(batch_of(PROMPTS, [SHORT[0], SHORT[1], LONG[2]]))
    lengths = [
        len(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in (SHORT[0], SHORT[1], LONG[2])
    ]
    assert length_B.tolist() == lengths and lengths[2] > 5
    assert made.nearest_class(length_B).tolist() == [min(n, 5) - 1 for n in lengths]


@pytest.mark.parametrize(("max_length", "right"), [(5, 0), (16, 2)])
def test_a_length_beyond_the_classes_counts_as_wrong(max_length: int, right: int) -> None:
    """The network says the last class of every row, or the right one where it has it."""
    made = stage(max_length)
    batch = batch_of(PROMPTS[:2], [LONG[2], LONG[0]])
    _, length_B = made.predict(batch)
    assert int(length_B.min()) > 5
    logits_BC = torch.zeros(2, max_length)
    logits_BC[torch.arange(2), made.nearest_class(length_B)] = 1.0
    made.predictor.forward = lambda *_: logits_BC  # type: ignore[method-assign]
    sums = made.validation_sums(batch)
    assert sums["length_accuracy"].total == right
    assert sums["length_in_top5"].total == right


def test_training_the_predictor_leaves_the_backbone_alone() -> None:
    made = stage().train()
    logits, length_B = made.predict(batch_of(PROMPTS, SHORT))
    torch.nn.functional.cross_entropy(logits, made.nearest_class(length_B)).backward()
    assert not made.backbone.training
    assert all(p.grad is None for p in made.backbone.parameters())
    assert all(p.grad is not None and p.grad.any() for p in made.predictor.mlp[-1].parameters())


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_what_lies_under_it_do_not_matter(side: str, inference: bool) -> None:
    """With and without gradients: torch has a separate fast path for inference."""
    made = predictor()
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(n, 16, generator=generator) for n in (7, 3, 5)]
    _, valid = padded(random_rows([7, 3, 5]), side, extra=2)
    feature = torch.full((*valid.shape, 16), 37.0)
    for row, own, place in zip(feature, features, valid, strict=True):
        row[place] = own
    with torch.inference_mode(inference):
        logits = made(feature, valid)
        for row, own in zip(logits, features, strict=True):
            alone = made(own[None], torch.ones(1, len(own), dtype=torch.bool))[0]
            torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-5)


def test_pool_is_the_mean_over_the_prompt() -> None:
    made = predictor()
    made.encoder = torch.nn.Identity()  # type: ignore[assignment]
    made.encoder.forward = lambda x, **_: x  # type: ignore[method-assign]
    seen: list[Tensor] = []
    made.mlp = torch.nn.Identity()  # type: ignore[assignment]
    made.mlp.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    feature = torch.arange(2 * 3 * 16, dtype=torch.float32).view(2, 3, 16)
    made(feature, torch.tensor([[True, True, False], [True, True, True]]))
    torch.testing.assert_close(seen[0][0], (feature[0, 0] + feature[0, 1]) / 2)
    torch.testing.assert_close(seen[0][1], feature[1].sum(dim=0) / 3)


def test_save_and_load_give_the_same_predictor_in_eval_mode(tmp_path: Path) -> None:
    assert not has_length_predictor(tmp_path)
    made = predictor()
    made.save(tmp_path, "a" * 64)
    assert has_length_predictor(tmp_path)
    loaded = load_length_predictor(tmp_path, "a" * 64)
    assert not loaded.training and loaded.settings == made.settings
    feature = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 4, dtype=torch.bool)
    assert torch.equal(loaded(feature, valid), made(feature, valid))


def test_a_predictor_is_refused_on_another_backbone(tmp_path: Path) -> None:
    predictor().save(tmp_path, "a" * 64)
    with pytest.raises(UserError, match="was trained on another backbone") as error:
        load_length_predictor(tmp_path, "b" * 64)
    assert "run the length stage again" in str(error.value)


def test_top_lengths_are_the_most_likely_best_first_and_never_more_than_there_are() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0], [9.0, 0.0, 1.0, 2.0]])
    assert top_lengths(logits, 1).tolist() == [[2], [1]]
    assert top_lengths(logits, 3).tolist() == [[2, 4, 3], [1, 4, 3]]
    assert top_lengths(logits, 10).tolist() == [[2, 4, 3, 1], [1, 4, 3, 2]]


@torch.no_grad()
def test_relative_logits_are_those_of_the_difference_in_tokens() -> None:
    made, plain = predictor(5, relative=True), predictor(5)
    plain.load_state_dict({k: v for k, v in made.state_dict().items() if "differences" not in k})
    feature, valid = torch.randn(2, 9, 16), torch.arange(9) < torch.tensor([[3], [9]])
    found, absolute = made(feature, valid), plain(feature, valid)
    # Gives the mean itself, which the differences read.
    made.mlp = torch.nn.Identity()  # type: ignore[assignment]
    assert made.differences is not None
    for row, tokens in enumerate([3, 9]):
        encoded = made.encoder(feature[row, None, :tokens]).mean(dim=1)
        difference = made.differences(encoded)[0]
        for length in range(1, 6):
            place = max(-5, min(5, length - tokens)) + 5
            expected = absolute[row, length - 1] + difference[place]
            torch.testing.assert_close(found[row, length - 1], expected, rtol=1e-4, atol=1e-4)


def test_relative_logits_learn_a_length_that_a_mean_cannot_count(tmp_path: Path) -> None:
    """Equal tokens have equal features, however many they are."""

    def accuracy(relative: bool) -> float:
        made = predictor(20, relative).train()
        optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
        generator = torch.Generator().manual_seed(0)
        token = torch.randn(1, 1, 16, generator=generator)
        for _ in range(60):
            length = torch.randint(2, 18, (32,), generator=generator)
            valid = torch.arange(18) < length[:, None]
            logits = made(token.expand(32, 18, 16), valid)
            loss = torch.nn.functional.cross_entropy(logits, length)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        made.save(tmp_path, "x")
        again = load_length_predictor(tmp_path, "x")
        valid = torch.arange(18) < torch.arange(2, 18)[:, None]
        guess = again(token.expand(16, 18, 16), valid).argmax(1)
        return float((guess == torch.arange(2, 18)).float().mean())

    assert accuracy(relative=True) > 0.9 > 0.3 > accuracy(relative=False)
