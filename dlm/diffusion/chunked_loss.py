"""Losses of the output layer without a matrix of all its logits.

The logits of a few tokens at a time are made, read and forgotten, and made again in the backward
pass: a third more arithmetic in the output layer, for memory that does not grow with tokens x
vocabulary (the idea of arXiv 2411.09009, in plain tensor operations on any device).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dlm.diffusion.objective import token_losses

# Logits (tokens x vocabulary) from which on they come in chunks, and the most of a chunk. One
# matrix is 10 to 20 % faster on a CPU at every size measured, and takes 16 bytes a logit
# (benchmarks/README.md): it stays until that is a gigabyte; on a GPU, not measured, four.
_THRESHOLD = {"cpu": 2**26}
_THRESHOLD_ELSEWHERE = 2**28
_CHUNK = {"cpu": 2**23}
_CHUNK_ELSEWHERE = 2**27


@dataclass(frozen=True)
class TokenLosses:
    """What is known of each token's prediction, float32 [M]; weights are the caller's."""

    cross_entropy_M: Tensor
    """-log p of the target."""
    smoothing_M: Tensor
    """-mean over V of log p."""
    right_M: Tensor
    """1 where the target is the likeliest token; without gradient."""


def rows_at_a_time(tokens: int, vocabulary: int, device: str) -> int | None:
    """How many tokens' logits to make at a time; None: all of them, as one matrix."""
    if tokens * vocabulary <= _THRESHOLD.get(device, _THRESHOLD_ELSEWHERE):
        return None
    return max(1, _CHUNK.get(device, _CHUNK_ELSEWHERE) // vocabulary)


def losses_of_logits(logits_MV: Tensor, target_M: Tensor, never: int | None = None) -> TokenLosses:
    """From logits that are there already; ``never``: a token of probability 0."""
    seen_MV = logits_MV.detach()
    if never is not None:
        place = torch.tensor([never], device=logits_MV.device)
        seen_MV = seen_MV.index_fill(-1, place, -torch.inf)
    right_M = (seen_MV.argmax(-1) == target_M).float()
    return TokenLosses(*token_losses(logits_MV, target_M, never), right_M)


def chunked_losses(
    hidden_MH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, target_M: Tensor, *, rows: int,
    never: int | None = None,
) -> TokenLosses:  # fmt: skip
    """The losses of logits = hidden weight^T + bias, ``rows`` tokens at a time; ``never``: a token
    of probability 0, whose row of the weight has no gradient here.

    Under autocast the products are in its type, as those of ``nn.Linear`` would be; softmax and
    losses are float32 (float64 for inputs in it).
    """
    device = hidden_MH.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    apply: Any = _ChunkedLosses.apply
    losses = apply(hidden_MH, weight_VH, bias_V, target_M, rows, dtype, never)
    return TokenLosses(*losses)


class _ChunkedLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_MH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, target_M: Tensor,
        rows: int, dtype: torch.dtype | None, never: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        ctx.rows, ctx.dtype, ctx.never = rows, dtype or weight_VH.dtype, never
        parts = []
        head = _Head(weight_VH, bias_V, ctx.dtype, never)
        for hidden_CH, target_C in _chunks(rows, hidden_MH, target_M):
            logits_CV = head.logits(hidden_CH)
            likeliest_C = logits_CV.argmax(-1)
            clean_C = logits_CV.gather(-1, target_C[:, None])[:, 0]
            log_sum_C = logits_CV.logsumexp(-1)
            parts.append(
                (log_sum_C, log_sum_C - clean_C, log_sum_C - head.mean(logits_CV),
                 (likeliest_C == target_C).to(log_sum_C.dtype))
            )  # fmt: skip
        log_sum_M, *losses = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.save_for_backward(hidden_MH, weight_VH, bias_V, target_M, log_sum_M)
        ctx.set_materialize_grads(False)  # without smoothing its term has no gradient
        ctx.mark_non_differentiable(losses[2])
        return losses[0], losses[1], losses[2]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, entropy_gradient_M: Tensor | None, smoothing_gradient_M: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        """d CE / d logits = p - onehot, d smoothing / d logits = p - 1/V (V - 1 of them where one
        token is never predicted)."""
        hidden_MH, weight_VH, bias_V, target_M, log_sum_M = ctx.saved_tensors
        of_clean_M = entropy_gradient_M
        if of_clean_M is None:
            of_clean_M = torch.zeros_like(log_sum_M)
        of_all_M = of_clean_M if smoothing_gradient_M is None else of_clean_M + smoothing_gradient_M
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        hidden_gradient_MH = torch.empty_like(hidden_MH) if for_hidden else None
        weight_gradient_VH = torch.zeros_like(weight_VH) if for_weight else None
        bias_gradient_V = torch.zeros_like(bias_V) if for_bias else None
        head = _Head(weight_VH, bias_V, ctx.dtype, ctx.never)
        first = 0
        columns = (hidden_MH, target_M, log_sum_M, of_clean_M, of_all_M)
        for hidden_CH, target_C, log_sum_C, of_clean_C, of_all_C in _chunks(ctx.rows, *columns):
            gradient_CV = head.logits(hidden_CH).sub_(log_sum_C[:, None]).exp_()
            gradient_CV.mul_(of_all_C[:, None])
            if smoothing_gradient_M is not None:
                gradient_CV.sub_((of_all_C - of_clean_C)[:, None] / head.predictable)
                if ctx.never is not None:
                    gradient_CV[:, ctx.never] = 0.0
            gradient_CV.scatter_add_(-1, target_C[:, None], -of_clean_C[:, None])
            if bias_gradient_V is not None:
                bias_gradient_V += gradient_CV.sum(0)
            narrow_CV = gradient_CV.to(ctx.dtype)
            if hidden_gradient_MH is not None:
                place = slice(first, first + len(hidden_CH))
                hidden_gradient_MH[place] = narrow_CV @ head.weight_VH
            if weight_gradient_VH is not None:
                _add_product(weight_gradient_VH, narrow_CV.T, hidden_CH.to(ctx.dtype))
            first += len(hidden_CH)
        return hidden_gradient_MH, weight_gradient_VH, bias_gradient_V, None, None, None, None


class _Head:
    """The output layer, cast once for all chunks."""

    def __init__(
        self, weight_VH: Tensor, bias_V: Tensor | None, dtype: torch.dtype, never: int | None
    ) -> None:
        self._never = never
        self.predictable = len(weight_VH) - (never is not None)
        self.weight_VH = weight_VH.to(dtype)
        self._bias_V = None if bias_V is None else bias_V.to(dtype)

    def logits(self, hidden_CH: Tensor) -> Tensor:
        """[C, V], never in fewer than 32 bits, and the caller's to overwrite."""
        logits_CV = F.linear(hidden_CH.to(self.weight_VH.dtype), self.weight_VH, self._bias_V)
        logits_CV = logits_CV if logits_CV.dtype == torch.float64 else logits_CV.float()
        if self._never is not None:
            logits_CV[:, self._never] = -torch.inf
        return logits_CV

    def mean(self, logits_CV: Tensor) -> Tensor:
        """Mean logit [C] of the tokens that may be predicted."""
        if self._never is None:
            return logits_CV.mean(-1)
        before_C, behind_C = logits_CV[:, : self._never], logits_CV[:, self._never + 1 :]
        return (before_C.sum(-1) + behind_C.sum(-1)) / self.predictable


def _chunks(rows: int, *columns: Tensor) -> Any:
    """The same ``rows`` rows of each (of no rows one empty chunk)."""
    return zip(*(torch.split(column, rows) for column in columns), strict=True)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left right, without another matrix of its size where the types agree."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
