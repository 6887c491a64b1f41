"""The mask and padding tokens that a causal language model was not made with."""

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dlm.diffusion.counter import counter_seed

_ROWS = 203
_WANTED = {"mask_token": "<mask>", "pad_token": "<pad>"}


def add_missing_tokens(
    tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel, *, seed: int
) -> list[str]:
    """Give a tokenizer the tokens it lacks, and the network a row for each; both in place.

    The vocabulary grows only if its spare rows (Qwen has some) do not suffice. New rows are drawn
    from ``seed`` alone, and ties stay.

    Returns:
        The tokens that were added; none if the tokenizer has them all.
    """
    known = min(len(tokenizer), int(network.config.vocab_size))
    missing = name_missing_tokens(tokenizer)
    if len(tokenizer) > known:
        _draw_rows(network, known, len(tokenizer), seed)
    if "pad_token" in missing:
        network.config.pad_token_id = tokenizer.pad_token_id
        if network.generation_config is not None:
            network.generation_config.pad_token_id = tokenizer.pad_token_id
    return list(missing.values())


def name_missing_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The tokenizer's part of :func:`add_missing_tokens`: name -> token of those that are added."""
    if tokenizer.unk_token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        # GPT-2 names its end token so. It reads every byte: nothing is unknown to it.
        tokenizer.unk_token = None
    missing: dict[str, Any] = {
        name: token for name, token in _WANTED.items() if getattr(tokenizer, name) is None
    }
    if missing:
        tokenizer.add_special_tokens(missing)
    return missing


def _draw_rows(network: PreTrainedModel, known: int, size: int, seed: int) -> None:
    """Rows ``known`` to ``size`` of the embedding and of an output layer of its own."""
    if size > network.config.vocab_size:
        # Its random rows are replaced below; they must not move the global generator.
        with torch.random.fork_rng(devices=[]):
            network.resize_token_embeddings(size, mean_resizing=False)
    generator = torch.Generator().manual_seed(counter_seed(seed, _ROWS))
    layers: Any = (network.get_input_embeddings(), network.get_output_embeddings())
    tied = layers[0].weight is layers[1].weight
    for weight_VH in (layer.weight for layer in layers[: 1 if tied else 2]):
        with torch.no_grad():
            mean_H, std_H = weight_VH[:known].mean(dim=0), weight_VH[:known].std(dim=0)
            noise = torch.randn(size - known, weight_VH.shape[1], generator=generator)
            # Like the rows of ordinary tokens: logits of new ones neither dwarf theirs nor vanish.
            weight_VH[known:size] = mean_H + std_H * noise.to(weight_VH)
