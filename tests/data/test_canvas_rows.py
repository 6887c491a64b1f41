"""Rows on a canvas: end tokens up to a fixed length, and which of them count."""

import numpy as np
import pytest
from small_vocabulary import tokenizer_of

from dlm.data.batches.batching import (
    BatchRequest,
    StepSampler,
    TokenBatch,
    TokenDataset,
    validation_requests,
)
from dlm.data.batches.order import BatchOrder
from dlm.data.rows.encoding import EncodedRows, encode_rows, limit_length
from dlm.errors import UserError
from dlm.tokens.special import SpecialTokens

PROMPTS = ["seven", "two hundred and seven", "twelve", "nine"]
RESPONSES = ["sieben", "zweihundertsieben", "zwölf", "neun"]
CANVAS = 20


def rows_of(count_padding: bool = True, canvas_length: int | None = CANVAS) -> EncodedRows:
    return encode_rows(
        tokenizer_of(), PROMPTS, RESPONSES, conditional=True, canvas_length=canvas_length,
        count_padding=count_padding,
    )  # fmt: skip


def batch_of(rows: EncodedRows, *positions: int) -> TokenBatch:
    request = BatchRequest(np.array(positions), np.arange(len(positions)), 4, 99)
    return TokenDataset(rows, pad_token_id=1).__getitems__(request)


def answer_lengths() -> list[int]:
    """Tokens of each response with one end token."""
    return rows_of(canvas_length=None).maskable_lengths.tolist()


def test_a_row_is_the_plain_one_and_end_tokens_up_to_the_length_of_the_canvas() -> None:
    plain, rows = rows_of(canvas_length=None), rows_of()
    end = SpecialTokens.of(tokenizer_of()).end
    for index in range(len(PROMPTS)):
        row, expected = rows.row(index).tolist(), plain.row(index).tolist()
        assert row[: len(expected)] == expected
        assert set(row[len(expected) :]) == {end}
        assert len(row) == rows.prompt_lengths[index] + CANVAS
    assert rows.maskable_lengths.tolist() == rows.counted_lengths.tolist() == [CANVAS] * 4


def test_noise_may_hit_the_whole_canvas_and_nothing_else() -> None:
    batch = batch_of(rows_of(), 0, 1, 2)
    assert batch.maskable_BL.sum(dim=1).tolist() == [CANVAS] * 3
    for number, prompt in enumerate(rows_of().prompt_lengths[:3]):
        assert batch.maskable_BL[number, prompt : prompt + CANVAS].all()
    for tensor in (batch.response_BL, batch.counted_BL):
        assert tensor.equal(batch.maskable_BL)


def test_padding_that_does_not_count_is_noised_like_that_which_does() -> None:
    rows = rows_of(count_padding=False)
    batch, counting = batch_of(rows, 3, 1), batch_of(rows_of(), 3, 1)
    assert batch.tokens_BL.equal(counting.tokens_BL)
    assert batch.maskable_BL.equal(counting.maskable_BL)
    assert batch.response_BL.equal(counting.response_BL)
    for number, index in enumerate((3, 1)):
        first, length = rows.prompt_lengths[index], answer_lengths()[index]
        assert batch.counted_BL[number].nonzero()[:, 0].tolist() == [*range(first, first + length)]


@pytest.mark.parametrize("count_padding", [True, False])
def test_the_count_of_a_step_is_that_of_the_tokens_that_count(count_padding: bool) -> None:
    rows = rows_of(count_padding)
    expected = 4 * CANVAS if count_padding else sum(answer_lengths())
    (validation,) = validation_requests(rows, 4, rank=0, world_size=1)
    assert validation.global_maskable == expected
    sampler = StepSampler(
        rows, BatchOrder(rows.lengths, 4, seed=0, grouping=0), first_step=0, accumulate=2, rank=0,
        world_size=1,
    )  # fmt: skip
    requests = iter(sampler)
    parts = [next(requests), next(requests)]
    assert [part.global_maskable for part in parts] == [expected] * 2
    counted = sum(int(TokenDataset(rows, 1).__getitems__(p).counted_BL.sum()) for p in parts)
    assert counted == expected


def test_some_of_the_rows_keep_what_counts_of_them() -> None:
    some = rows_of(count_padding=False).select([2, 1])
    assert some.counted_lengths.tolist() == [answer_lengths()[2], answer_lengths()[1]]


def test_a_response_of_one_token_too_many_is_named_with_the_remedies() -> None:
    longest = max(answer_lengths())
    index = answer_lengths().index(longest)
    rows = rows_of(canvas_length=longest)
    assert limit_length(rows, 99, drop=False, place="f", canvas_length=longest)[1] == 0
    rows = rows_of(canvas_length=longest - 1)
    with pytest.raises(UserError) as refused:
        limit_length(
            rows, 99, drop=False, place="f", where=lambda i: f"f.jsonl, line {i + 1}",
            canvas_length=longest - 1,
        )  # fmt: skip
    text = str(refused.value)
    assert text.startswith(
        f"f.jsonl, line {index + 1}: a response of {longest} tokens, its end token included, where "
        f"the canvas has {longest - 1} ('{RESPONSES[index]}"
    )
    for remedy in ("Shorten or remove them", "data.too_long=drop", "raise data.canvas_length"):
        assert remedy in text


def test_too_long_responses_are_dropped_and_counted() -> None:
    longest = max(answer_lengths())
    rows = rows_of(count_padding=False, canvas_length=longest - 1)
    kept, dropped = limit_length(rows, 99, drop=True, place="f", canvas_length=longest - 1)
    fitting = [length for length in answer_lengths() if length < longest]
    assert (kept.counted_lengths.tolist(), dropped) == (fitting, 4 - len(fitting))
    assert set(kept.maskable_lengths.tolist()) == {longest - 1}


def test_a_prompt_that_leaves_no_room_for_the_canvas_is_too_long_a_row() -> None:
    rows = rows_of()
    longest = int(rows.lengths.max())
    with pytest.raises(UserError) as refused:
        limit_length(rows, longest - 1, drop=False, place="f", canvas_length=CANVAS)
    text = str(refused.value)
    assert f"{longest} tokens, special tokens and a canvas of {CANVAS} included, where" in text
    assert "raise data.max_length" in text


def test_no_row_left_names_both_lengths() -> None:
    said = (
        r"than 99 tokens, or its response than the canvas of 1: .* data.canvas_length or data.max"
    )
    with pytest.raises(UserError, match=said):
        limit_length(rows_of(canvas_length=1), 99, drop=True, place="f", canvas_length=1)
