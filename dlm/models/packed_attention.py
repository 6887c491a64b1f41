"""Attention of packed rows that never looks across documents, in place of a mask [R, W, W].

One attention function of transformers: given the ``Documents`` of packed rows, on CUDA torch's
kernel for sequences of any lengths, on a CPU the documents themselves, a few of nearly equal
length at a time; without them (padded rows) transformers' own SDPA, unchanged. Where prompts see
themselves alone (patterns that begin with ``prefix``) they are documents of their own too. Annealed
attention stays with the mask.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dlm.models.attention import AttentionPattern
from dlm.models.packed import Packing

NAME = "dlm_documents"
"""What transformers knows the function by."""


LayerKeys = dict[int, list[Tensor]]
"""Keys and values of every layer [tokens, heads, D], by its attention module's ``id``."""


@dataclass(frozen=True)
class Group:
    """Documents of nearly equal length, next to each other in ``Documents.order_P``."""

    count: int
    width: int
    length_N: Tensor | None
    """Their lengths; None: all are ``width`` long."""
    keys: int | None = None
    """So many keys each, behind a cached prompt; None: as many as queries."""
    seen: Tensor | None = None
    """Which of these they see, bool [count, 1, 1, keys]; None: all."""
    near: Tensor | None = None
    """The same in layers of narrow sight, [count, 1, width or 1, keys]."""


@dataclass(frozen=True)
class Documents:
    """Where the documents of packed rows [R, W] lie, and what their tokens see."""

    causal: bool
    window: int | None
    """How far layers of narrow sight see to either side; None: there are none."""
    longest: int
    """No document is longer."""
    bounds_N: Tensor | None = None
    """CUDA: where documents and gaps begin in the rows laid end to end, int32, and the end."""
    groups: tuple[Group, ...] = ()
    """CPU: what is computed together."""
    order_P: Tensor | None = None
    """CPU: the packed place of every place of the groups, one after the other."""
    back_W: Tensor | None = None
    """CPU: the group place of every packed one [R x W]; anything where there is no token."""
    kept: LayerKeys | None = None
    """Where keys and values of every layer are kept; None: they are not."""
    known: LayerKeys | None = None
    """Keys and values of cached prompts, in front of those of the rows; None: there are none."""
    key_order_P: Tensor | None = None
    """With cached prompts: the places of the documents' keys among those and the rows'."""
    key_bounds_N: Tensor | None = None
    """CUDA, with cached prompts: where the documents begin among their keys, and the end."""
    prompts: "Documents | None" = None
    """The prompts, where they see themselves alone; None: they see what the rest does."""
    prompt_W: Tensor | None = None
    """Packed places that hold them, bool [R x W]."""


def documents_of(
    packing: Packing,
    valid_BL: Tensor,
    pattern: AttentionPattern,
    response_BL: Tensor | None = None,
    *,
    window: int | None,
) -> Documents:
    """The documents of a packed batch; on CUDA without waiting for the device.

    Args:
        packing: The layout.
        valid_BL: False on padding.
        pattern: Who sees whom.
        response_BL: The response, which ends its row; read by the patterns that begin with
            ``prefix``.
        window: How far layers of narrow sight see; None: there are none.
    """
    lay_out = _sequences if valid_BL.is_cuda else _grouped
    length_B = valid_BL.sum(dim=1)
    whole = lay_out(packing, length_B, pattern in ("causal", "prefix_causal"), window)
    if not pattern.startswith("prefix"):
        return whole
    assert response_BL is not None, f"{pattern} needs to know the response"
    # Everything attends in its whole document, and prompts once more in themselves: a little
    # arithmetic twice, but neither a key nor a mask is copied, and nobody asks how many there are.
    prompt_B = length_B - (response_BL & valid_BL).sum(dim=1)
    start_B1 = (packing.row_B * packing.width + packing.start_B)[:, None]
    area = packing.rows * packing.width
    column_L = torch.arange(valid_BL.shape[1], device=valid_BL.device)
    place_BL = torch.where(column_L < prompt_B[:, None], start_B1 + column_L, area)
    prompt_W = torch.zeros(area + 1, dtype=torch.bool, device=valid_BL.device)
    prompt_W = prompt_W.index_fill(0, place_BL.flatten(), True)[:-1]
    prompts = lay_out(packing, prompt_B, False, window)
    if prompts.bounds_N is None and not prompts.groups:
        return whole
    return replace(whole, prompts=prompts, prompt_W=prompt_W)


def _sequences(packing: Packing, length_B: Tensor, causal: bool, window: int | None) -> Documents:
    """For the kernel of CUDA: so many tokens from each document's start."""
    start_B = packing.row_B * packing.width + packing.start_B
    begins = bounds(start_B, length_B, packing.rows * packing.width)
    # A gap, which is a sequence too, is no longer than a row.
    return Documents(causal, window, packing.longest or packing.width, begins)


def _grouped(packing: Packing, length_B: Tensor, causal: bool, window: int | None) -> Documents:
    """For a CPU: so many tokens from each document's start, those of near length together."""
    start_B = packing.row_B * packing.width + packing.start_B
    area = packing.rows * packing.width
    order_B = length_B.argsort(stable=True)
    order_B = order_B[length_B[order_B] > 0]
    if not len(order_B):
        return Documents(causal, window, packing.width)
    groups, order = [], []
    back_W = torch.zeros(area, dtype=torch.int64)
    first = 0
    for documents_N in torch.split(order_B, near_lengths(length_B[order_B].tolist())):
        length_N = length_B[documents_N]
        width = int(length_N[-1])
        column_C = torch.arange(width)
        # Padding stands where its document's last token does.
        place_NC = start_B[documents_N, None] + column_C.minimum(length_N[:, None] - 1)
        filled_NC = column_C < length_N[:, None]
        numbers_NC = first + torch.arange(place_NC.numel()).view(place_NC.shape)
        back_W[place_NC[filled_NC]] = numbers_NC[filled_NC]
        equal = int(length_N[0]) == width
        groups.append(Group(len(documents_N), width, None if equal else length_N))
        order.append(place_NC.flatten())
        first += place_NC.numel()
    return Documents(
        causal, window, packing.width, groups=tuple(groups), order_P=torch.cat(order), back_W=back_W
    )


def bounds(start_B: Tensor, length_B: Tensor, area: int) -> Tensor:
    """Where documents begin and end in rows laid end to end, int32 [2 B + 2]: the gaps between
    them are sequences too, some of them empty."""
    # Filled on the device: a copy of a list would make the host wait.
    first, last = start_B.new_zeros(1), start_B.new_full((1,), area)
    return torch.cat([start_B, start_B + length_B, first, last]).sort().values.int()


def near_lengths(lengths: list[int]) -> list[int]:
    """How many of these documents, shortest first, to compute together each time: the longest has
    a quarter more tokens than the shortest at most."""
    runs, shortest = [0], lengths[0]
    for length in lengths:
        if length > shortest + max(4, shortest // 4):
            runs.append(0)
            shortest = length
        runs[-1] += 1
    return runs


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    documents: Documents | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Transformers' interface: heads [R, heads, W, D] to [R, W, heads, D]."""
    if documents is None:
        forward: Any = sdpa_attention_forward
        attended: tuple[Tensor, None] = forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return attended
    window = documents.window if options.get("sliding_window") is not None else None
    rows, heads, width, size = query.shape
    shared = heads // key.shape[1]
    if shared > 1:
        key, value = (tensor.repeat_interleave(shared, dim=1) for tensor in (key, value))
    flat = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value)]
    if documents.kept is not None:
        documents.kept[id(module)] = flat[1:]
    if documents.known is not None and documents.key_order_P is not None:
        both = [torch.cat(pair) for pair in zip(documents.known[id(module)], flat[1:], strict=True)]
        flat[1:] = [tensor.index_select(0, documents.key_order_P) for tensor in both]
    out_PHD = _attended(flat, documents, window, scaling, dropout)
    if documents.prompts is not None and documents.prompt_W is not None:
        alone_PHD = _attended(flat, documents.prompts, window, scaling, dropout)
        out_PHD = torch.where(documents.prompt_W[:, None, None], alone_PHD, out_PHD)
    return out_PHD.view(rows, width, heads, size), None


def _attended(
    flat: list[Tensor], documents: Documents, window: int | None, scaling: float | None,
    dropout: float,
) -> Tensor:  # fmt: skip
    if documents.bounds_N is None:
        return _not_compiled(flat, documents, window, scaling, dropout)
    if torch.is_autocast_enabled("cuda"):
        flat = [tensor.to(torch.get_autocast_dtype("cuda")) for tensor in flat]
    far = -1 if window is None else window
    keys_N = documents.bounds_N if documents.key_bounds_N is None else documents.key_bounds_N
    out: Tensor = _varlen()(
        *flat, documents.bounds_N, keys_N, documents.longest, documents.longest,
        scale=scaling, window_size=(far, 0 if documents.causal else far),
    )  # fmt: skip
    return out


def _by_groups(
    flat: list[Tensor], documents: Documents, window: int | None, scaling: float | None,
    dropout: float,
) -> Tensor:  # fmt: skip
    assert documents.order_P is not None and documents.back_W is not None
    sizes = [group.count * group.width for group in documents.groups]
    # index_select: its backward is deterministic on CPU.
    queries, keys, values = flat
    if documents.known is None:
        keys, values = (x.index_select(0, documents.order_P) for x in (keys, values))
    key_sizes = [group.count * (group.keys or group.width) for group in documents.groups]
    ordered = [
        torch.split(queries.index_select(0, documents.order_P), sizes),
        torch.split(keys, key_sizes),
        torch.split(values, key_sizes),
    ]
    out = []
    for group, *parts in zip(documents.groups, *ordered, strict=True):
        query, key, value = (
            part.view(group.count, -1, *part.shape[1:]).transpose(1, 2) for part in parts
        )
        mask = _mask(group, documents.causal, window)
        seen = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling,
            is_causal=documents.causal and mask is None,
        )  # fmt: skip
        out.append(seen.transpose(1, 2).flatten(0, 1))
    return torch.cat(out).index_select(0, documents.back_W)


_disable: Any = torch.compiler.disable  # which is not typed
_not_compiled: Callable[..., Tensor] = _disable(_by_groups)
"""Its groups are other ones in every batch: compiled, it would be so again and again."""


def _mask(group: Group, causal: bool, window: int | None) -> Tensor | None:
    """What a query of a group does not see of its own document and the padding behind it."""
    if group.keys is not None:
        return group.seen if window is None else group.near
    place_C = torch.arange(group.width)
    # Padding is behind the document: a token that sees nothing behind it does not see padding.
    seen = None
    if group.length_N is not None and not causal:
        seen = (place_C < group.length_N[:, None])[:, None, None]
    if window is not None and window < group.width - 1:
        distance_CC = (place_C[:, None] - place_C).abs()
        near_CC = distance_CC <= window
        if causal:
            near_CC = near_CC.tril()
        # Padding sees itself: the softmax of nothing is NaN.
        seen = near_CC[None, None] if seen is None else (near_CC & seen) | (distance_CC == 0)
    return seen


def _varlen() -> Callable[..., Any]:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


def install(network: PreTrainedModel) -> None:
    """Let a network that attends by SDPA do so by this module's function."""
    can: Callable[[], bool] = getattr(network, "_can_set_attn_implementation", lambda: False)
    if network.config._attn_implementation == "sdpa" and can():
        network.set_attn_implementation(NAME)


def obstacle(
    network: PreTrainedModel,
    device: torch.device,
    annealed: bool,
    *,
    dtype: torch.dtype | None = None,
    trains: bool | None = None,
) -> str | None:
    """Why packed rows of a network need the mask here; None: they do not.

    Args:
        network: It, with the attention that it was given.
        device: Where it computes.
        annealed: Whether a causal network is becoming bidirectional.
        dtype: What attention computes in on a GPU; None: as autocast says now.
        trains: Whether dropout is on; None: as the network is now.
    """
    config = network.config
    if annealed:
        return "attention is being annealed"
    if config._attn_implementation != NAME:
        return f"the network attends by {config._attn_implementation}, not sdpa"
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        return f"there is no kernel for device {device.type}"
    if dtype is None:
        autocast = torch.is_autocast_enabled("cuda")
        dtype = torch.get_autocast_dtype("cuda") if autocast else network.dtype
    return _obstacle_on_cuda(network, dtype, network.training if trains is None else trains)


def _obstacle_on_cuda(network: PreTrainedModel, dtype: torch.dtype, trains: bool) -> str | None:
    try:
        known = inspect.signature(_varlen()).parameters
    except ImportError:
        return f"torch {torch.__version__} has no varlen_attn (2.11 has)"
    if "window_size" not in known or "scale" not in known:
        return f"varlen_attn of torch {torch.__version__} takes no window or scale (2.11 does)"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"varlen_attn takes bfloat16 and float16, not {str(dtype).removeprefix('torch.')}"
    if torch.cuda.get_device_capability()[0] < 8:
        return "varlen_attn needs a GPU of compute capability 8.0 or newer"
    names = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
    rate = max(getattr(network.config, name, None) or 0.0 for name in names)
    if trains and rate:
        return f"varlen_attn has no dropout, and attention has {rate:g} (model.dropout)"
    return None


ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
