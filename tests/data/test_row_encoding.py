"""Rows as token ids: begin prompt end response end; what noise may hit; rows that are too long."""

import numpy as np
import pytest
from small_vocabulary import tokenizer_of
from transformers import PreTrainedTokenizerFast

from dlm.data.rows.encoding import (
    EncodedRows,
    encode_prompts,
    encode_responses,
    encode_rows,
    limit_length,
)
from dlm.errors import UserError

PROMPTS = ["seven", "two thousand two hundred and seventy-seven", "twelve"]
RESPONSES = ["sieben", "zweitausendzweihundertsiebenundsiebzig", "zwölf"]
BEGIN, END = 0, 2


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer_of()


@pytest.fixture(scope="module")
def pairs(tokenizer: PreTrainedTokenizerFast) -> EncodedRows:
    return encode_rows(tokenizer, PROMPTS, RESPONSES, conditional=True)


def test_a_pair_is_begin_prompt_end_response_end(
    tokenizer: PreTrainedTokenizerFast, pairs: EncodedRows
) -> None:
    for index, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        row = pairs.row(index).tolist()
        first = pairs.prompt_lengths[index]
        assert row[0] == BEGIN and row[first - 1] == END and row[-1] == END
        assert str(tokenizer.decode(row[1 : first - 1])).strip() == prompt
        assert str(tokenizer.decode(row[first:-1])).strip() == response
        assert row[:first] == encode_prompts(tokenizer, [prompt])[0]
        assert row[first:-1] == encode_responses(tokenizer, [response])[0]
        assert row.count(END) == 2


def test_noise_may_hit_the_response_and_its_end_and_never_the_prompt(pairs: EncodedRows) -> None:
    np.testing.assert_array_equal(pairs.maskable_lengths, pairs.lengths - pairs.prompt_lengths)


def test_a_text_is_begin_text_end_and_its_ends_stay(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = encode_rows(tokenizer, ["", ""], RESPONSES[:2], conditional=False)
    expected = [BEGIN, *encode_responses(tokenizer, RESPONSES[:1])[0], END]
    assert rows.row(0).tolist() == expected
    assert rows.prompt_lengths.tolist() == [1, 1]
    np.testing.assert_array_equal(rows.maskable_lengths, rows.lengths - 2)


def test_some_rows_are_selected_with_everything_that_is_theirs(pairs: EncodedRows) -> None:
    chosen = pairs.select([2, 0])
    assert [chosen.row(i).tolist() for i in range(2)] == [pairs.row(i).tolist() for i in (2, 0)]
    assert chosen.prompt_lengths.tolist() == pairs.prompt_lengths[[2, 0]].tolist()
    assert (chosen.prompts, chosen.responses) == (
        [PROMPTS[2], PROMPTS[0]],
        [RESPONSES[2], RESPONSES[0]],
    )
    assert len(pairs.select([])) == 0


def test_rows_that_fit_exactly_are_kept(pairs: EncodedRows) -> None:
    kept, dropped = limit_length(pairs, int(pairs.lengths.max()), drop=False, place="file")
    assert kept is pairs and dropped == 0


def test_a_row_that_is_one_token_too_long_is_named_with_the_remedies(pairs: EncodedRows) -> None:
    longest = int(pairs.lengths.max())
    with pytest.raises(UserError) as refused:
        limit_length(pairs, longest - 1, drop=False, place="file", where=lambda i: f"line {i + 5}")
    text = str(refused.value)
    assert text.startswith(f"line 6: {longest} tokens, special tokens included, where at most ")
    assert "1 of 3 rows are too long" in text
    for remedy in ("Shorten or remove them", "data.too_long=drop", "raise data.max_length"):
        assert remedy in text


def test_too_long_rows_are_dropped_and_counted(pairs: EncodedRows) -> None:
    kept, dropped = limit_length(pairs, int(pairs.lengths.max()) - 1, drop=True, place="file")
    assert (len(kept), dropped) == (2, 1)
    assert kept.prompts == [PROMPTS[0], PROMPTS[2]]


def test_no_row_left_is_an_error_even_when_dropping(pairs: EncodedRows) -> None:
    with pytest.raises(UserError, match="file: every row is longer than 3 tokens"):
        limit_length(pairs, 3, drop=True, place="file")
