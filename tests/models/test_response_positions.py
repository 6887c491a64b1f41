"""Where responses stand: positions and token types, in every family and layout."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_backbones import BY_PLACE, ENCODERS, padded, random_rows, tiny_backbone
from tiny_causal import CAUSAL, causal_backbone
from torch import Tensor

from dlm.data.batches.packing import plan_packing
from dlm.errors import UserError
from dlm.models.attention.masks import square_mask
from dlm.models.backbone import Backbone
from dlm.models.positions import (
    CONTINUED,
    ResponsePositions,
    fixed_start,
    has_token_types,
)

PROMPTS, LENGTHS = [4, 2, 7, 3], [9, 11, 8, 3]
FIXED = ResponsePositions(start=17)
CLOSE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}
FAMILIES = [family for family in [*ENCODERS, *CAUSAL] if family not in BY_PLACE]
families = pytest.mark.parametrize("family", FAMILIES)
patterns = pytest.mark.parametrize(
    "pattern", ["bidirectional", "prefix_lm", "causal", "prefix_causal"]
)


def backbone_of(family: str) -> Backbone:
    backbone = causal_backbone(family) if family in CAUSAL else tiny_backbone(family)
    backbone.shifted = False  # states as the network gives them
    return backbone


def rows() -> tuple[list[list[int]], Tensor, Tensor, Tensor]:
    """Rows, padded on the right, and their responses; the last row has none."""
    made = random_rows(LENGTHS)
    tokens, valid = padded(made)
    response = valid & (torch.arange(tokens.shape[1]) >= torch.tensor(PROMPTS)[:, None])
    return made, tokens, valid, response


def by_hand(backbone: Backbone, row: list[int], prompt: int, pattern: Any, where: Any) -> Tensor:
    """The network itself on one row, told every position."""
    place = [*range(prompt), *range(where.start, where.start + len(row) - prompt)]
    response = torch.arange(len(row))[None] >= prompt
    options: dict[str, Any] = {}
    if where.token_type:
        options["token_type_ids"] = response.long()
    mask = square_mask(pattern, torch.ones(1, len(row), dtype=torch.bool), response)
    if backbone.network.config._attn_implementation == "eager":
        mask = torch.where(mask, 0.0, -1e9)  # code of its own, which adds it
    ids = torch.tensor([place]) + backbone.position_offset
    output = backbone.network.base_model(
        input_ids=torch.tensor([row]), attention_mask=mask, position_ids=ids, **options
    )
    return output.last_hidden_state[0]


@families
@patterns
@torch.no_grad()
def test_states_are_those_of_the_network_told_every_position(family: str, pattern: Any) -> None:
    backbone = backbone_of(family)
    made, tokens, valid, response = rows()
    continued = backbone.hidden(tokens, valid, attention=pattern, response_BL=response)
    kinds = [FIXED]
    if has_token_types(backbone.network.config):
        kinds.append(ResponsePositions(17, token_type=True))
    for where in kinds:
        backbone.response_positions = where
        found = backbone.hidden(tokens, valid, attention=pattern, response_BL=response)
        for number, row in enumerate(made):
            expected = by_hand(backbone, row, PROMPTS[number], pattern, where)
            torch.testing.assert_close(found[number, : len(row)], expected, **CLOSE)
        assert not torch.allclose(found[0, :9], continued[0, :9], atol=1e-2)
        torch.testing.assert_close(found[3, :3], continued[3, :3], msg="it has no response")


@families
@patterns
@torch.no_grad()
def test_left_padded_and_packed_rows_have_the_same_states(family: str, pattern: Any) -> None:
    backbone = backbone_of(family)
    backbone.response_positions = FIXED
    made, tokens, valid, response = rows()
    states = backbone.hidden(tokens, valid, attention=pattern, response_BL=response)
    packing = plan_packing(np.array(LENGTHS), 20)
    packed = backbone.hidden(
        tokens, valid, attention=pattern, response_BL=response, packing=packing
    )
    torch.testing.assert_close(packed[valid], states[valid], **CLOSE)
    left_tokens, left_valid = padded(made, "left", extra=2)
    left_response = torch.zeros_like(left_valid)
    left_response[left_valid] = response[valid]
    left = backbone.hidden(left_tokens, left_valid, attention=pattern, response_BL=left_response)
    torch.testing.assert_close(left[left_valid], states[valid], **CLOSE)


@torch.no_grad()
def test_the_response_is_found_behind_the_prompts_end() -> None:
    backbone = backbone_of("bert")
    backbone.response_positions, backbone.end_token_id = FIXED, 3
    tokens, valid = torch.tensor([[2, 9, 8, 3, 7, 6, 3]]), torch.ones(1, 7, dtype=torch.bool)
    response = torch.arange(7)[None] > 3
    given = backbone.hidden(tokens, valid, response_BL=response)
    assert torch.equal(backbone.hidden(tokens, valid), given)


@pytest.mark.parametrize("where", [CONTINUED, FIXED, ResponsePositions(20)], ids=str)
def test_room_and_longest_prompt_agree(where: ResponsePositions) -> None:
    for prompt in range(1, 40):
        for response in range(1, 40):
            behind = prompt if where.start is None else max(prompt, where.start)
            fits = behind + response <= 40 and prompt <= (where.start or prompt)
            assert (response <= where.room(40, prompt)) == fits
            assert (prompt <= where.longest_prompt(40, response)) == fits


@pytest.mark.parametrize(
    ("prompt", "response", "start"),
    [(3, 4, 32), (32, 4, 32), (33, 4, 60), (20, 34, 30), (40, 24, 40)],
)
def test_a_start_is_rounded_up_where_responses_leave_room(
    prompt: int, response: int, start: int
) -> None:
    assert fixed_start(prompt, response, 64) == start


def test_rows_that_do_not_fit_have_no_start() -> None:
    with pytest.raises(UserError, match=r"has 41 tokens and .* 24, .* 65 positions .* has 64"):
        fixed_start(41, 24, 64)


def test_some_families_have_token_types() -> None:
    found = [family for family in FAMILIES if has_token_types(backbone_of(family).network.config)]
    assert "bert" in found and not {"roberta", "distilbert", "esm", *CAUSAL} & {*found}


@pytest.mark.parametrize("where", [CONTINUED, FIXED, ResponsePositions(3, True)], ids=str)
def test_it_reads_back(where: ResponsePositions) -> None:
    assert ResponsePositions.from_json(where.as_json()) == where
