"""Which lengths are decoded: the reference's, or the predictor's best; always within room."""

import pytest
import torch
from tiny_generation import PROMPTS, FixedLengths, count_calls, random_predictor, tiny_model

from dlm.data.rows.encoding import encode_prompts
from dlm.errors import UserError
from dlm.generation.batches import batches_of_like_length
from dlm.generation.lengths import LengthChoice, candidate_lengths
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings

ORACLE = GenerationSettings(length="oracle")


def ids_of(model: GenerativeModel, prompts: list[str]) -> list[list[int]]:
    return encode_prompts(model.tokenizer, prompts)


def numbers(lengths: list[list[LengthChoice]]) -> list[list[int]]:
    return [[choice.length for choice in row] for row in lengths]


def test_oracle_length_is_the_references_number_of_tokens() -> None:
    model = tiny_model()
    references = ["der hund", "ein roter fuchs lief", "", "a"]
    lengths, calls = candidate_lengths(model, ids_of(model, PROMPTS[:4]), references, ORACLE)
    counts = [len(model.tokenizer(r, add_special_tokens=False)["input_ids"]) for r in references]
    assert counts[2] == 0
    assert lengths == [[(max(1, count), 0.0)] for count in counts]
    assert calls == 0


def test_predicted_lengths_are_the_best_of_the_prompt_alone_best_first() -> None:
    model = tiny_model(predictor=random_predictor())
    prompt_ids = ids_of(model, PROMPTS)
    settings = GenerationSettings(length_beam=3, batch_tokens=25)
    lengths, calls = candidate_lengths(model, prompt_ids, None, settings)
    assert model.length_predictor is not None
    for row, ids in zip(lengths, prompt_ids, strict=True):
        valid = torch.ones(1, len(ids), dtype=torch.bool)
        feature = model.backbone.hidden(torch.tensor([ids]), valid)
        log_p = model.length_predictor(feature, valid)[0].double().log_softmax(-1).tolist()
        ranked = sorted(range(len(log_p)), key=lambda c: -log_p[c])[:3]
        assert [choice.length for choice in row] == [c + 1 for c in ranked]
        assert [choice.log_probability for choice in row] == pytest.approx(
            [log_p[c] for c in ranked], abs=1e-4
        )
    assert len({tuple(row) for row in numbers(lengths)}) > 1
    assert calls > 1


def test_one_call_of_the_network_is_counted_per_batch_of_prompts() -> None:
    model = tiny_model(predictor=random_predictor())
    shapes = count_calls(model)
    settings = GenerationSettings(batch_tokens=25)
    _, calls = candidate_lengths(model, ids_of(model, PROMPTS), None, settings)
    assert calls == len(shapes)
    assert sum(rows for rows, _ in shapes) == len(PROMPTS)
    assert all(rows * width <= 25 or rows == 1 for rows, width in shapes)


def test_a_wider_beam_than_the_predictors_lengths_takes_them_all() -> None:
    model = tiny_model(predictor=random_predictor(max_length=4))
    settings = GenerationSettings(length_beam=10)
    (row,), _ = candidate_lengths(model, ids_of(model, PROMPTS[:1]), None, settings)
    assert sorted(choice.length for choice in row) == [1, 2, 3, 4]


def test_lengths_are_cut_to_the_models_positions_without_doubles() -> None:
    model = tiny_model(predictor=FixedLengths(30, 4, 20, 9), max_positions=16)
    prompt_ids = ids_of(model, ["a dog", "the red fox"])
    rooms = [16 - len(ids) - 1 for ids in prompt_ids]
    assert all(9 <= room < 20 for room in rooms)
    lengths, _ = candidate_lengths(model, prompt_ids, None, GenerationSettings(length_beam=4))
    assert numbers(lengths) == [[room, 4, 9] if room != 9 else [9, 4] for room in rooms]
    for row in lengths:  # of 30 and 20, which are cut alike, the likelier stays
        log_p = [choice.log_probability for choice in row]
        assert log_p == sorted(log_p, reverse=True)


def test_oracle_lengths_are_cut_to_the_models_positions() -> None:
    model = tiny_model(max_positions=12)
    prompt_ids = ids_of(model, ["a dog"])
    lengths, _ = candidate_lengths(model, prompt_ids, ["the red fox ran " * 5], ORACLE)
    assert numbers(lengths) == [[12 - len(prompt_ids[0]) - 1]]


def test_oracle_without_references_is_refused() -> None:
    model = tiny_model()
    with pytest.raises(UserError, match="length=oracle needs references"):
        candidate_lengths(model, ids_of(model, PROMPTS), None, ORACLE)


def test_predicted_lengths_without_a_predictor_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(UserError, match="this model has no length predictor"):
        candidate_lengths(model, ids_of(model, PROMPTS), None, GenerationSettings())


@pytest.mark.parametrize("max_tokens", [1, 10, 30, 1000])
def test_batches_hold_every_row_once_under_the_token_budget_longest_first(max_tokens: int) -> None:
    lengths = [3, 9, 4, 4, 1, 12, 30, 7, 7]
    batches = batches_of_like_length(lengths, max_tokens)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens
    if max_tokens == 1000:
        assert len(batches) == 1
