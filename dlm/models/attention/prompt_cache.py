"""Keys and values of prompts, kept while what stands behind them is computed again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlm.models.attention.documents import Documents, Group, LayerKeys, group_queries


@dataclass(frozen=True)
class PromptCache:
    """Of prompts laid end to end, without a gap."""

    layers: LayerKeys
    """Keys and values of every layer, [tokens, heads, D]."""
    lengths: list[int]
    """Tokens of each prompt."""
    device: torch.device
    """Where they lie."""


def beginnings(
    layers: LayerKeys, lengths: list[int], of: list[int], device: torch.device
) -> PromptCache:
    """Places of each row's first tokens, as many as said, in rows laid end to end."""
    length_B, prompt_B = torch.tensor(lengths), torch.tensor(of)
    skipped_B = (length_B - prompt_B).cumsum(0) - (length_B - prompt_B)
    row_T = torch.repeat_interleave(prompt_B)
    place_T = sent(torch.arange(len(row_T)) + skipped_B[row_T], device)
    kept = {
        layer: [tensor.index_select(0, place_T) for tensor in both]
        for layer, both in layers.items()
    }
    return PromptCache(kept, of, device)


def grown(cache: PromptCache, rows: list[int], added: LayerKeys) -> PromptCache:
    """Rows of these numbers, a number as often as it is wanted, each with one token more, whose
    keys and values are ``added``."""
    length_U = torch.tensor(cache.lengths)
    row_B = torch.tensor(rows)
    before_B = length_U[row_B]
    total_B = before_B + 1
    first_B = (length_U.cumsum(0) - length_U)[row_B]
    column_T = torch.arange(int(total_B.sum()))
    column_T -= torch.repeat_interleave(total_B.cumsum(0) - total_B, total_B)
    number_T = torch.repeat_interleave(torch.arange(len(rows)), total_B)
    last_T = column_T == before_B[number_T]
    place_T = torch.where(last_T, sum(cache.lengths) + number_T, first_B[number_T] + column_T)
    place_T = sent(place_T, cache.device)
    layers = {
        layer: [
            torch.cat(pair).index_select(0, place_T)
            for pair in zip(both, added[layer], strict=True)
        ]
        for layer, both in cache.layers.items()
    }
    return PromptCache(layers, total_B.tolist(), cache.device)


def continued_documents(
    cache: PromptCache, prompts: list[int], lengths: list[int], window: int | None
) -> Documents:
    """Documents whose first part is the prompt of that number, and whose rest, of those lengths,
    lies end to end in one row: every token of the rest sees its prompt and the whole rest."""
    device = cache.device
    prompt_N = torch.tensor([cache.lengths[number] for number in prompts])
    rest_N = torch.tensor(lengths)
    rest_start_N = rest_N.cumsum(0) - rest_N
    length_U = torch.tensor(cache.lengths)
    start_N = (length_U.cumsum(0) - length_U)[torch.tensor(prompts)]
    behind = sum(cache.lengths)

    def keys(column_NK: Tensor, row_N: Tensor) -> Tensor:
        """The place of a document's column among the prompts' tokens and the rest's."""
        before_N1 = prompt_N[row_N, None]
        return torch.where(
            column_NK < before_N1,
            start_N[row_N, None] + column_NK,
            behind + rest_start_N[row_N, None] + column_NK - before_N1,
        )

    total_N = prompt_N + rest_N
    if device.type == "cuda":
        row_K = torch.repeat_interleave(total_N)
        first_N = total_N.cumsum(0) - total_N
        column_K = torch.arange(len(row_K)) - first_N[row_K]
        order_K = keys(column_K[:, None], row_K).squeeze(1)
        bounds = [torch.cat([torch.zeros(1, dtype=torch.int64), x.cumsum(0)]).int()
                  for x in (rest_N, total_N)]  # fmt: skip
        return Documents(
            False, window, int(total_N.max()), bounds_N=sent(bounds[0], device),
            key_bounds_N=sent(bounds[1], device), key_order_P=sent(order_K, device),
            known=cache.layers,
        )  # fmt: skip
    made = group_queries(rest_start_N, rest_N, total_N, sum(lengths))
    groups, key_order = [], []
    for row_N, width in made.rows:
        widest, end_N1 = int(total_N[row_N].max()), total_N[row_N, None]
        column_C, column_K = torch.arange(width), torch.arange(widest)
        key_order.append(keys(column_K.minimum(end_N1 - 1), row_N).flatten())
        seen_NCK = (column_K < end_N1)[:, None, None]
        narrow_NCK = seen_NCK
        if window is not None:
            place_NC = prompt_N[row_N, None] + column_C.minimum(rest_N[row_N, None] - 1)
            near_NCK = (place_NC[..., None] - column_K).abs() <= window
            narrow_NCK = seen_NCK & near_NCK[:, None]
        whole = bool((end_N1 == widest).all())
        mask = None if whole else seen_NCK
        groups.append(Group(len(row_N), width, None, widest, mask, narrow_NCK))
    return Documents(
        False, window, int(total_N.max()), groups=tuple(groups), order_P=made.order_P,
        back_W=made.back_W, key_order_P=torch.cat(key_order), known=cache.layers,
    )  # fmt: skip


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for what it is doing."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
