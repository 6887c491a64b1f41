"""The likeliest token of every state, without the matrix of all logits."""

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS, _LOGITS = 512, {"cpu": 2**19, "cuda": 2**26}
"""States at a time, and logits: those of a CPU stay in its cache."""


def likeliest(
    state_SH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, forbidden_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """argmax and its log-probability [S] under  softmax(state weight' + bias)  without the
    forbidden tokens, in float32; of equals the first token.

    A part of the vocabulary at a time: each gives its largest logit and its sum of exponentials
    relative to it. Rows are cut too, so that a part is as large as ``_LOGITS`` at most.
    """
    barred_V = torch.zeros_like(weight_VH[:, 0]) if bias_V is None else bias_V.clone()
    barred_V.index_fill_(0, forbidden_ids, -torch.inf)
    parts = [_of_rows(part, weight_VH, barred_V) for part in torch.split(state_SH, _ROWS)]
    tokens, log_p = zip(*parts, strict=True)
    return torch.cat(tokens), torch.cat(log_p)


def likeliest_of_logits(logits_SV: Tensor, forbidden_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The same of logits that are there."""
    logits_SV = logits_SV.float().index_fill(-1, forbidden_ids, -torch.inf)
    best = logits_SV.max(-1)
    return best.indices, best.values - logits_SV.logsumexp(-1)


def _of_rows(state_SH: Tensor, weight_VH: Tensor, bias_V: Tensor) -> tuple[Tensor, Tensor]:
    most = _LOGITS.get(state_SH.device.type, _LOGITS["cuda"])
    width = max(1, most // max(1, len(state_SH)))
    largest, token, total = [], [], []
    for first in range(0, len(weight_VH), width):
        part = slice(first, first + width)
        logits_SC = F.linear(state_SH, weight_VH[part], bias_V[part]).float()
        best = logits_SC.max(-1)
        # A part that is forbidden altogether has -inf, and no exponential may be taken of NaN.
        floor_S1 = best.values[:, None].clamp(min=torch.finfo(torch.float32).min)
        largest.append(best.values)
        token.append(best.indices + first)
        total.append(logits_SC.sub_(floor_S1).exp_().sum(-1))
    largest_SP, token_SP, total_SP = (torch.stack(x, dim=1) for x in (largest, token, total))
    best_SP = largest_SP.max(-1)
    log_total_S = (largest_SP + total_SP.log()).logsumexp(-1)
    token_S = token_SP.gather(1, best_SP.indices[:, None]).squeeze(1)
    return token_S, best_SP.values - log_total_S
