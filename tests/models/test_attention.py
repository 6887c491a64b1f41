"""Who sees whom, in the mask itself and through every architecture."""

from itertools import product

import pytest
import torch
from tiny_backbones import ENCODERS, padded, random_rows, tiny_backbone
from torch import Tensor

from dlm.models.attention.masks import AttentionPattern, attention_mask, square_mask

PROMPT, RESPONSE = 5, 4
every_architecture = pytest.mark.parametrize("architecture", ENCODERS)


def response_of(prompt_lengths: list[int], valid_BL: Tensor) -> Tensor:
    index_BL = (valid_BL.cumsum(dim=1) - 1).clamp(min=0)
    return valid_BL & (index_BL >= torch.tensor(prompt_lengths)[:, None])


@pytest.mark.parametrize("side", ["right", "left"])
def test_prefix_causal_mask_equals_the_rule_for_every_pair_of_positions(side: str) -> None:
    lengths, prompts = [9, 4, 7], [5, 0, 1]  # the second is all response
    _, valid = padded(random_rows(lengths), side)
    response = response_of(prompts, valid)
    mask = attention_mask("prefix_causal", valid, response)
    assert mask.dtype == torch.bool and mask.shape == (3, 1, 9, 9)
    for row in range(3):
        for query in range(9):
            for key in range(9):
                if not valid[row, query]:
                    continue  # only that it sees something is asked for, below
                prompt_key = bool(valid[row, key] and not response[row, key])
                earlier = bool(response[row, query] and response[row, key] and key <= query)
                assert bool(mask[row, 0, query, key]) == (prompt_key or earlier), (row, query, key)
    assert mask.any(dim=-1).all()


def seen(
    pattern: AttentionPattern, valid: Tensor, response: Tensor, row: int, query: int, key: int
) -> bool:
    """The rule, for one pair of positions of which the query is valid."""
    if not valid[row, key]:
        return False
    if pattern == "bidirectional":
        return True
    if pattern == "causal":
        return key <= query
    if not response[row, key]:
        return True
    return bool(response[row, query]) and (pattern == "prefix_lm" or key <= query)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pattern", ["bidirectional", "prefix_lm", "causal", "prefix_causal"])
def test_square_mask_equals_the_rule_for_every_pair_of_positions(
    pattern: AttentionPattern, side: str
) -> None:
    lengths, prompts = [9, 4, 7, 3], [5, 0, 1, 3]  # the second is all response, the last all prompt
    _, valid = padded(random_rows(lengths), side, extra=1)
    response = response_of(prompts, valid)
    mask = square_mask(pattern, valid, response)
    assert mask.dtype == torch.bool and mask.shape == (4, 1, 10, 10)
    for row, query, key in product(range(4), range(10), range(10)):
        if valid[row, query]:
            expected = seen(pattern, valid, response, row, query, key)
            assert bool(mask[row, 0, query, key]) == expected, (row, query, key)
    assert mask.any(dim=-1).all()  # padding too must see something, or its softmax is NaN


def test_bidirectional_mask_shows_every_position_all_that_is_not_padding() -> None:
    _, valid = padded(random_rows([4, 2]))
    assert torch.equal(attention_mask("bidirectional", valid).bool(), valid)


def states(architecture: str, row: list[int], pattern: AttentionPattern) -> Tensor:
    tokens, valid = padded([row])
    return tiny_backbone(architecture).hidden(
        tokens,
        valid,
        attention=pattern,
        response_BL=response_of([PROMPT], valid),
    )[0]


def moved(first: Tensor, second: Tensor) -> list[int]:
    """Positions whose state differs."""
    return ((first - second).abs().amax(-1) > 1e-5).nonzero().flatten().tolist()


def changed(row: list[int], place: int) -> list[int]:
    other = [*row]
    other[place] = 5 if row[place] != 5 else 6
    return other


@every_architecture
@pytest.mark.parametrize("place", range(PROMPT, PROMPT + RESPONSE))
def test_a_response_token_moves_only_itself_and_what_follows(architecture: str, place: int) -> None:
    (row,) = random_rows([PROMPT + RESPONSE])
    before = states(architecture, row, "prefix_causal")
    after = states(architecture, changed(row, place), "prefix_causal")
    assert moved(before, after) == list(range(place, PROMPT + RESPONSE))


@every_architecture
def test_a_prompt_token_moves_the_whole_row(architecture: str) -> None:
    (row,) = random_rows([PROMPT + RESPONSE])
    before = states(architecture, row, "prefix_causal")
    for place in range(PROMPT):
        after = states(architecture, changed(row, place), "prefix_causal")
        assert moved(before, after) == list(range(PROMPT + RESPONSE))


@every_architecture
def test_prompt_states_are_those_of_the_prompt_without_a_response(architecture: str) -> None:
    (row,) = random_rows([PROMPT + RESPONSE])
    whole = states(architecture, row, "prefix_causal")[:PROMPT]
    alone = states(architecture, row[:PROMPT], "prefix_causal")
    bidirectional = states(architecture, row[:PROMPT], "bidirectional")
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole, bidirectional, atol=1e-5, rtol=1e-5)


@every_architecture
def test_every_token_moves_the_whole_row_when_attention_is_bidirectional(architecture: str) -> None:
    (row,) = random_rows([PROMPT + RESPONSE])
    before = states(architecture, row, "bidirectional")
    for place in range(PROMPT + RESPONSE):
        after = states(architecture, changed(row, place), "bidirectional")
        assert moved(before, after) == list(range(PROMPT + RESPONSE))


@every_architecture
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pattern", ["bidirectional", "prefix_lm", "causal", "prefix_causal"])
def test_padding_gives_no_nan_and_changes_nothing(
    architecture: str, side: str, pattern: AttentionPattern
) -> None:
    backbone = tiny_backbone(architecture)
    rows, prompts = random_rows([9, 3, 6]), [4, 0, 1]
    tokens, valid = padded(rows, side, extra=3)
    hidden = backbone.hidden(
        tokens,
        valid,
        attention=pattern,
        response_BL=response_of(prompts, valid),
    )
    assert hidden.isfinite().all()
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        own_tokens, own_valid = padded([row])
        alone = backbone.hidden(
            own_tokens,
            own_valid,
            attention=pattern,
            response_BL=response_of([prompt], own_valid),
        )
        torch.testing.assert_close(hidden[number, valid[number]], alone[0], atol=1e-5, rtol=1e-5)
    hidden[valid].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in backbone.parameters())
