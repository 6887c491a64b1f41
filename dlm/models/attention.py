"""Who sees whom: attention masks of padded batches."""

from typing import Literal

import torch
from torch import Tensor

AttentionPattern = Literal["bidirectional", "prefix_causal"]


def attention_mask(
    pattern: AttentionPattern, valid_BL: Tensor, response_BL: Tensor | None = None
) -> Tensor:
    """The mask to give a Hugging Face encoder.

    bidirectional: every position sees every valid one (the 2-D mask itself). prefix_causal (the
    autoregressive twin): prompt positions see the whole prompt, response positions see the prompt
    and the response up to themselves; bool [B, 1, L, L].
    """
    if pattern == "bidirectional":
        return valid_BL.long()
    assert response_BL is not None, "prefix_causal needs to know the response"
    length = valid_BL.shape[1]
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=valid_BL.device).tril()
    seen_BLL = (~response_BL & valid_BL)[:, None, :] | (
        causal_LL & response_BL[:, None, :] & response_BL[:, :, None]
    )
    # A padded query must see something, or its softmax is NaN.
    own_LL = torch.eye(length, dtype=torch.bool, device=valid_BL.device)
    return (seen_BLL | own_LL)[:, None]
