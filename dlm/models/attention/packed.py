"""Attention of packed rows that never looks across documents, in place of a mask [R, W, W].

One attention function of transformers: given the ``Documents`` of packed rows, on CUDA torch's
kernel for sequences of any lengths, on a CPU the documents themselves, a few of nearly equal
length at a time; without them (padded rows) transformers' own SDPA, unchanged. Where prompts see
themselves alone (patterns that begin with ``prefix``) they are documents of their own too. Annealed
attention stays with the mask.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dlm.models.attention.documents import Documents, Group
from dlm.models.families import family_of

NAME = "dlm_documents"
"""What transformers knows the function by."""


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
        network: The network, its attention replaced in place.
        device: Where it computes.
        annealed: Whether a causal network is becoming bidirectional.
        dtype: What attention computes in on a GPU; None: as autocast says now.
        trains: Whether dropout is on; None: as the network is now.
    """
    config = network.config
    if annealed:
        return "attention is being annealed"
    if family_of(config).own_attention is not None:
        return f"a network of type '{config.model_type}' attends by code of its own"
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
