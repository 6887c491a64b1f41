"""The right shift of a causal language model: its state at one token predicts the next token.

Adapted to diffusion it keeps doing so (DiffuLLaMA, arXiv 2410.17891, section 3.2, where the same
weights learn far worse without it; Dream, arXiv 2508.15487).
"""

import torch
from torch import Tensor


def previous_token(valid_BL: Tensor) -> Tensor:
    """Column of the valid token before each position, int64 [B, L]; its own where there is none."""
    column_L = torch.arange(valid_BL.shape[1], device=valid_BL.device)
    latest_BL = torch.where(valid_BL, column_L, -1).cummax(dim=1).values
    before_BL = torch.cat([torch.full_like(latest_BL[:, :1], -1), latest_BL[:, :-1]], dim=1)
    return torch.where(before_BL < 0, column_L, before_BL)


def shift_right(hidden_BLH: Tensor, valid_BL: Tensor) -> Tensor:
    """Every position gets the state of the token before it, a row's first token keeps its own."""
    rows, length = valid_BL.shape
    first_B1 = torch.arange(rows, device=valid_BL.device)[:, None] * length
    place_P = (first_B1 + previous_token(valid_BL)).flatten()
    # index_select as everywhere: its backward is deterministic on CPU.
    return hidden_BLH.flatten(0, 1).index_select(0, place_P).view_as(hidden_BLH)


def predicts(response_BL: Tensor, valid_BL: Tensor) -> Tensor:
    """The response, and the token before it whose state predicts the response's first one."""
    count_BL = torch.zeros_like(valid_BL, dtype=torch.int64)
    count_BL = count_BL.scatter_add(1, previous_token(valid_BL), response_BL.long())
    return response_BL | (count_BL > 0)
