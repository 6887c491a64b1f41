"""Whether a checkpoint is the network that would be trained: its settings, shapes, tokenizer."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from dlm.errors import UserError
from dlm.models.checkpoint_files import vocabulary_files
from dlm.models.families import FAMILIES, is_causal
from dlm.models.positions import counts_from_pad

_BUFFERS = (
    "position_ids", "token_type_ids", "inv_freq", "masked_bias", "attn.bias", "attention.bias",
)  # fmt: skip
"""Endings of names that old files hold and that are no weights: counts and masks."""
_UNUSED = ("pooler.",)
"""Parts of a network's body that language models do without."""
_LEGACY = (True, "its head has no output layer that can be read in part")
_ONLY: dict[str, dict[str, tuple[Any, str]]] = {
    "deberta-v2": {
        "conv_kernel_size": (
            0, "its convolution mixes neighbouring tokens, which may be of other rows or not to be "
            "seen",
        ),
        "legacy": _LEGACY,
    },
    "deberta": {"legacy": _LEGACY},
    "esm": {"is_folding_model": (False, "it folds proteins, and predicts no tokens")},
    "mpnet": {"pad_token_id": (1, "transformers counts its positions from there")},
}  # fmt: skip
"""Model type -> setting -> the one value that is supported, and why no other."""
Mismatch = tuple[str, tuple[int, ...], tuple[int, ...]]
"""A weight's name, its shape in the file, its shape in the network."""


def check_config(name: str | Path, config: PretrainedConfig) -> None:
    """Refuse a network that its settings describe and that would be another one here.

    Raises:
        UserError: It has relative positions (transformers 5 reads past them and gives absolute
            ones), or a setting that its type is not supported with, or it is an encoder's type used
            as a decoder, or its weights are quantized.
    """
    family = FAMILIES[config.model_type]
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions not in family.position_types and not family.causal:
        known = " and ".join(family.position_types)
        raise UserError(
            f"the model '{name}' has position_embedding_type '{positions}' in its config.json, and "
            f"transformers 5 knows {known} positions alone in this family: it would be another "
            f"network than the one that was trained. Take a checkpoint with {known} positions"
        )
    for setting, (fits, reason) in _ONLY.get(config.model_type, {}).items():
        value = getattr(config, setting, fits)
        if value != fits:
            raise UserError(
                f"the model '{name}' has {setting}: {value} in its config.json, and models of type "
                f"'{config.model_type}' are supported with {fits} alone: {reason}. Take another "
                "checkpoint"
            )
    if getattr(config, "quantization_config", None):
        raise UserError(
            f"the model '{name}' is quantized (quantization_config in its config.json), and is "
            "trained and used here with whole weights: take the checkpoint that it was made from"
        )
    for setting in ("is_decoder", "add_cross_attention"):
        if getattr(config, setting, False) and not is_causal(config.model_type):
            raise UserError(
                f"the model '{name}' has {setting}: true in its config.json, so it was made to "
                "read from left to right, and here it would read in both directions. If it was "
                f"trained as a masked language model, set {setting} to false there; else take "
                "another checkpoint"
            )


def check_loaded(
    name: str | Path,
    network: PreTrainedModel,
    *,
    mismatched: Iterable[Mismatch],
    unexpected: Iterable[str],
) -> None:
    """Refuse weights of other shapes, and weights of the body that the network has no place for.

    Raises:
        UserError: There are such; the message names them.
    """
    if wrong := sorted(mismatched):
        raise UserError(_mismatch_text(name, wrong))
    prefix = f"{network.base_model_prefix}."
    # Of a body that was saved without its head the names have no prefix.
    parts = {child for child, _ in network.base_model.named_children()}
    left = sorted(
        key
        for key in unexpected
        if (key.startswith(prefix) or key.partition(".")[0] in parts) and _is_weight(key, prefix)
    )
    if left:
        raise UserError(
            f"the model '{name}' has weights that a network of type '{network.config.model_type}' "
            f"as its config.json describes it has no place for: {_first(left)}. Without them it "
            "would be another network: correct config.json, or take another checkpoint"
        )
    for key, weight in network.named_parameters():  # what is tied is in it once
        if not bool(weight.sum().isfinite()):
            raise UserError(
                f"the model '{name}' has weights that are no finite numbers ({key}): it was saved "
                "of a training that failed, or its file is damaged; take another checkpoint"
            )


def check_shapes(
    name: str | Path, network: PreTrainedModel, shapes: dict[str, tuple[int, ...]]
) -> None:
    """The part of :func:`check_loaded` on shapes, without loading the weights: ``shapes`` are those
    of the file.

    Raises:
        UserError: A weight has another shape in the network.
    """
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    wrong = [
        (key, shape, wanted[key])
        for key, shape in shapes.items()
        if key in wanted and wanted[key] != shape
    ]
    if wrong:
        raise UserError(_mismatch_text(name, sorted(wrong)))


def check_tokenizer(name: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that knows nothing but special tokens: transformers makes one where a
    directory has no vocabulary.

    Raises:
        UserError: It is one.
    """
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if any(len(word) > 1 or word.isalnum() for word in words):
        return
    files = vocabulary_files(Path(name)) if Path(name).is_dir() else []
    reason = f"knows no text (its files: {', '.join(files)})" if files else "has no vocabulary file"
    raise UserError(
        f"the tokenizer '{name}' cannot be loaded: it {reason}, so every token would be unknown. "
        "Put the tokenizer.json and tokenizer_config.json there that the model was trained with "
        "(tokenizer.save_pretrained writes them beside the weights)"
    )


def check_fit(
    name: str | Path, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> None:
    """Refuse a tokenizer that does not belong to the network beside it.

    A causal network may lack rows for the mask and padding tokens, which it is given.

    Raises:
        UserError: Tokens have no row in the embeddings, or the network counts its positions by
            another padding token than the tokenizer's.
    """
    rows, pad = int(config.vocab_size), config.pad_token_id
    given = (tokenizer.mask_token, tokenizer.pad_token) * (is_causal(config.model_type))
    # Other special tokens are never read: no text becomes them, and no row is made of them.
    unread = {*tokenizer.all_special_tokens} - {
        tokenizer.cls_token, tokenizer.bos_token, tokenizer.sep_token, tokenizer.eos_token,
        tokenizer.pad_token, tokenizer.mask_token,
    }  # fmt: skip
    beyond = sorted(
        (id_, token)
        for token, id_ in tokenizer.get_vocab().items()
        if id_ >= rows and token not in given and token not in unread
    )
    if beyond:
        shown = _first([f"{token!r} ({id_})" for id_, token in beyond])
        raise UserError(
            f"the tokenizer of '{name}' does not fit the model: its ids go up to {beyond[-1][0]}, "
            f"and the embeddings have {rows} rows, so {len(beyond)} tokens have none: {shown}. "
            "Take the tokenizer that the model was trained with; or, if they were added on "
            "purpose, give the model rows for them with transformers "
            "(model.resize_token_embeddings(len(tokenizer)), then model.save_pretrained)"
        )
    if not counts_from_pad(config) or pad in (None, tokenizer.pad_token_id) or pad >= rows:
        return
    taken = tokenizer.convert_ids_to_tokens(pad)
    if taken is not None:
        raise UserError(
            f"the model '{name}' has pad_token_id {pad} in its config.json, which is {taken!r} for "
            f"its tokenizer, whose padding token is {tokenizer.pad_token!r} "
            f"({tokenizer.pad_token_id}). A network of type '{config.model_type}' does not count "
            f"positions of its padding token, so it was trained with wrong positions behind every "
            f"{taken!r}. Take the tokenizer that belongs to it; if this is the one, the network "
            f"must be trained anew with pad_token_id {tokenizer.pad_token_id}"
        )


def _is_weight(key: str, prefix: str) -> bool:
    return not key.endswith(_BUFFERS) and not key.removeprefix(prefix).startswith(_UNUSED)


def _mismatch_text(name: str | Path, wrong: list[Mismatch]) -> str:
    shown = _first(
        [f"{key} is {list(found)} and should be {list(want)}" for key, found, want in wrong]
    )
    return (
        f"the weights of the model '{name}' do not have the shapes that its config.json says: "
        f"{shown}. The two are not of one model: take both from where it was saved"
    )


def _first(items: list[str]) -> str:
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
