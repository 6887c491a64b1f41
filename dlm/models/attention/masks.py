"""Who sees whom: attention masks of padded batches."""

from typing import Literal

import torch
from torch import Tensor

AttentionPattern = Literal["bidirectional", "prefix_lm", "causal", "prefix_causal"]


def attention_mask(
    pattern: AttentionPattern, valid_BL: Tensor, response_BL: Tensor | None = None
) -> Tensor:
    """The mask to give a Hugging Face encoder.

    bidirectional: every position sees every valid one (the 2-D mask itself, int64 [B, L]). Any
    other pattern: ``square_mask``.
    """
    if pattern == "bidirectional":
        return valid_BL.long()
    return square_mask(pattern, valid_BL, response_BL)


def square_mask(
    pattern: AttentionPattern,
    valid_BL: Tensor,
    response_BL: Tensor | None = None,
    document_BL: Tensor | None = None,
) -> Tensor:
    """Which key every query sees, bool [B, 1, L (query), L (key)].

    Transformers takes a 4-D mask as it is, so that a causal network given this one sees what it
    says and nothing else. ``response_BL`` is read by the patterns that begin with ``prefix``.

    bidirectional: every valid position. prefix_lm: prompt positions see the whole prompt, response
    positions everything (the prompt's keys and values do not depend on the response). causal:
    valid positions up to the query's own. prefix_causal (the autoregressive twin): prompt
    positions see the whole prompt, response positions the prompt and the response up to
    themselves. Padding sees itself at least.

    ``document_BL``: rows that hold several documents, and which of them each position belongs to;
    none sees another.
    """
    length = valid_BL.shape[1]
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=valid_BL.device).tril()
    if pattern == "bidirectional":
        seen_BLL = valid_BL[:, None, :].expand(-1, length, -1)
    elif pattern == "causal":
        seen_BLL = causal_LL & valid_BL[:, None, :]
    else:
        assert response_BL is not None, f"{pattern} needs to know the response"
        prompt_BL = valid_BL & ~response_BL
        within_BLL = response_BL[:, None, :] & response_BL[:, :, None]
        if pattern == "prefix_causal":
            within_BLL = causal_LL & within_BLL
        seen_BLL = prompt_BL[:, None, :] | within_BLL
    if document_BL is not None:
        seen_BLL = seen_BLL & (document_BL[:, None, :] == document_BL[:, :, None])
    # A padded query must see something, or its softmax is NaN.
    own_LL = torch.eye(length, dtype=torch.bool, device=valid_BL.device)
    return (seen_BLL | own_LL)[:, None]


def within_window(mask_B1LL: Tensor, window: int) -> Tensor:
    """What is left of a square mask where keys may be this many positions away at most."""
    place_L = torch.arange(mask_B1LL.shape[-1], device=mask_B1LL.device)
    return mask_B1LL & ((place_L[:, None] - place_L).abs() <= window)


def response_of(tokens_BL: Tensor, valid_BL: Tensor, end_token_id: int) -> Tensor:
    """What follows the prompt's end token, bool [B, L].

    A row is  begin prompt end response end, or  begin text end  (nothing follows: no response).
    The end token is never part of a prompt's text and noise never hits the prompt, so this holds
    at any noise level. A begin token that is the end token too (GPT-2) does not count.
    """
    inside_BL = valid_BL.cumsum(dim=1) > 1
    end_BL = (tokens_BL == end_token_id) & valid_BL & inside_BL
    before_BL = end_BL.cumsum(dim=1) - end_BL.long()
    return valid_BL & (before_BL > 0)
