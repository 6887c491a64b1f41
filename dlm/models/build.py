"""Backbones from scratch, from a Hugging Face directory or from the hub."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    BertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    XLMRobertaConfig,
)

from dlm.errors import UserError, first_line
from dlm.models.backbone import Backbone
from dlm.models.checkpoint import (
    check_config,
    check_fit,
    check_loaded,
    check_shapes,
    check_tokenizer,
)
from dlm.models.checkpoint_files import (
    check_files,
    instead_of_weights,
    vocabulary_files,
    weight_shapes,
)
from dlm.models.families import family_of
from dlm.models.fresh_head import FreshHead, check_missing, seeded
from dlm.models.outside import (
    config_of_type,
    meta_network,
    new_network,
    open_config,
    open_network,
    open_tokenizer,
    own_code,
    own_code_text,
)
from dlm.models.positions import position_offset, positions
from dlm.models.sums import check_sums
from dlm.models.weight_names import check_names
from dlm.places import place_of
from dlm.saying import say_once
from dlm.tokens.special import SpecialTokens

NOT_BUILT = (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
             RuntimeError, ZeroDivisionError)  # fmt: skip
"""What transformers and torch raise of settings that describe no network; they are not checked."""


_AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "albert": {},
    "deberta-v2": {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 256,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "esm": {"position_embedding_type": "rotary"},
    "nomic_bert": {},
}  # fmt: skip
"""Types that are built from scratch by transformers' names -> settings of the models that gave them
their name, which transformers' own defaults are not."""


def build_from_scratch(
    tokenizer: PreTrainedTokenizerBase,
    *,
    architecture: str,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    intermediate_size: int | None,
    max_positions: int,
    dropout: float | None,
    seed: int,
    initializer_range: float = 0.02,
) -> Backbone:
    """A network with random weights, drawn from ``seed`` alone."""
    special = SpecialTokens.of(tokenizer)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "intermediate_size": intermediate_size or 4 * hidden_size,
        "pad_token_id": special.pad,
        "bos_token_id": special.begin,
        "eos_token_id": special.end,
        "initializer_range": initializer_range,
    }
    config = scratch_config(architecture, sizes, max_positions, 0.1 if dropout is None else dropout)
    if hasattr(config, "mask_token_id"):
        config.mask_token_id = special.mask
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = new_network(config)
    _freeze_unread(network)
    return Backbone(network.train())


def scratch_config(
    architecture: str, sizes: dict[str, Any], max_positions: int, dropout: float
) -> PretrainedConfig:
    """The configuration of a network from scratch; ``sizes`` by Hugging Face's common names, the
    ids of the pad, begin and end tokens among them."""
    if architecture == "modernbert":
        return ModernBertConfig(
            **sizes,
            max_position_embeddings=max_positions,
            layer_types=["full_attention"] * sizes["num_hidden_layers"],
            attention_dropout=dropout,
            embedding_dropout=dropout,
            mlp_dropout=dropout,
            cls_token_id=sizes["bos_token_id"],
            sep_token_id=sizes["eos_token_id"],
        )
    if architecture == "gpt2":
        return GPT2Config(
            **sizes,
            n_positions=max_positions,
            n_inner=sizes["intermediate_size"],
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
        )
    rotary: dict[str, Any] = {
        "max_position_embeddings": max_positions, "attention_dropout": dropout,
    }  # fmt: skip
    if architecture == "llama":
        return LlamaConfig(**sizes, **rotary)
    if architecture == "eurobert":
        # Tied like the other encoders, which its class would not do.
        # By name: older versions of transformers have no such class.
        return config_of_type("eurobert", **sizes, **rotary, tie_word_embeddings=True)
    if architecture == "albert":
        sizes = {**sizes, "embedding_size": min(128, sizes["hidden_size"])}
    rates: dict[str, Any] = {
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    if architecture == "bert":
        return BertConfig(**sizes, **rates, max_position_embeddings=max_positions)
    if architecture in _AS_PUBLISHED:
        config = config_of_type(architecture, **sizes, **rates, **_AS_PUBLISHED[architecture])
        config.max_position_embeddings = max_positions + position_offset(config)
        return config
    kind = XLMRobertaConfig if architecture == "xlm-roberta" else RobertaConfig
    return kind(
        **sizes,
        **rates,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        max_position_embeddings=max_positions + sizes["pad_token_id"] + 1,
    )


def load_backbone(
    name: str | Path,
    *,
    revision: str | None = None,
    dropout: float | None = None,
    trust_remote_code: bool = False,
    fresh_head: FreshHead | None = None,
) -> Backbone:
    """A masked or causal language model from a Hugging Face directory or the hub, with float32
    weights, in train mode.

    Args:
        name: the directory or hub name.
        revision: of the hub model.
        dropout: in place of the checkpoint's own.
        trust_remote_code: run code that comes with the model.
        fresh_head: how the output layer is begun that the checkpoint was saved without; None
            refuses such a checkpoint.

    Raises:
        UserError: It cannot be loaded, lacks weights, or has an output layer that is to be fresh;
            the message says from where and why.
    """
    name = place_of(name)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = load_config(name, **options)
    if Path(name).is_dir():
        check_sums(Path(name))
        _check_weights(Path(name), config, trust_remote_code=trust_remote_code)
    try:
        for field in family_of(config).dropouts if dropout is not None else ():
            setattr(config, field, dropout)
        with seeded(fresh_head):
            network, loading = open_network(name, config, **options)
    except UserError:
        raise
    except (OSError, SafetensorError, ImportError, *NOT_BUILT) as error:
        raise UserError(f"the model '{name}' cannot be loaded: {first_line(error)}") from error
    try:
        check_loaded(
            name, network, mismatched=loading["mismatched_keys"],
            unexpected=loading["unexpected_keys"],
        )  # fmt: skip
    except UserError as error:
        if trust_remote_code or not own_code(name):
            raise
        raise UserError(f"{own_code_text(name)}. Without it: {error}") from error
    check_missing(name, network, loading["missing_keys"], fresh_head)
    if (prepare := family_of(config).prepare) is not None and (done := prepare(network)):
        say_once(name, f"the model '{name}': {done}", about="prepared")
    _freeze_unread(network)
    return Backbone(network.train())


def check_model_directory(directory: Path, *, trust_remote_code: bool = False) -> int:
    """What :func:`load_backbone` and :func:`load_tokenizer` would refuse in a directory, as far as
    it shows without loading the weights; gives the network's positions.

    Raises:
        UserError: Something is wrong; the message says what.
    """
    config = load_config(directory, trust_remote_code=trust_remote_code)
    load_tokenizer(directory, fits=config, trust_remote_code=trust_remote_code)
    _check_weights(directory, config, trust_remote_code=trust_remote_code)
    return positions(config)


def _check_weights(directory: Path, config: PretrainedConfig, *, trust_remote_code: bool) -> None:
    """The files' headers beside the network that config.json describes."""
    if reason := _pickles_alone(directory) or instead_of_weights(directory):
        raise UserError(f"the model '{directory}' cannot be loaded: {reason}")
    try:
        network = meta_network(config, trust_remote_code=trust_remote_code)
    except NOT_BUILT as error:
        raise UserError(
            f"the model '{directory}': no network can be made of its config.json "
            f"({type(error).__name__}: {first_line(error)}): correct it, or take it from where the "
            "model was saved"
        ) from error
    shapes = weight_shapes(directory)
    if not trust_remote_code and own_code(directory):
        return  # its own network may have other weights; what is loaded is compared whole
    check_names(directory, network, shapes)
    check_shapes(directory, network, shapes)


def _freeze_unread(network: Any) -> None:
    """What no logit reads gets no gradient, which DDP would wait for: parts of a body that are for
    other tasks; and where the two are not tied (tie_word_embeddings: false), the bias that heads
    hold beside that of the output layer."""
    body = network.base_model
    for part in (getattr(body, "pooler", None), getattr(body, "contact_head", None)):
        if isinstance(part, nn.Module):
            part.requires_grad_(False)
    if family_of(network.config).bias_beside:
        return
    output = network.get_output_embeddings()
    heads = [getattr(getattr(network, "cls", None), "predictions", None)]
    for head in (*heads, *(getattr(network, name, None) for name in ("lm_head", "predictions"))):
        bias = getattr(head, "bias", None)
        if head is not output and isinstance(bias, nn.Parameter) and bias is not output.bias:
            bias.requires_grad_(False)


def _pickles_alone(directory: Path) -> str | None:
    """Why a directory without safetensors files is not loaded, if it has weights at all."""
    pickles = sorted(path.name for path in directory.glob("*.bin"))
    if not pickles or any(directory.glob("*.safetensors")):
        return None
    return (
        f"its weights are pickles ({pickles[0]}), which can carry code, and only safetensors files "
        "are read. If you trust where it comes from, load it with transformers and write it with "
        "save_pretrained, which makes model.safetensors"
    )


def load_tokenizer(
    name: str | Path,
    *,
    revision: str | None = None,
    fits: PretrainedConfig | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """A tokenizer from a Hugging Face directory or the hub; ``fits``: the network beside it;
    ``trust_remote_code``: run code that comes with it.

    Raises:
        UserError: It cannot be loaded, knows no text, or belongs to another network; the message
            says from where and why.
    """
    name = place_of(name)
    if Path(name).is_dir():
        check_files(Path(name))
    try:
        tokenizer = open_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
    except UserError:
        raise
    except Exception as error:  # the tokenizers library raises no kind of its own
        reason = _sentencepiece_alone(Path(name)) or first_line(error)
        raise UserError(f"the tokenizer '{name}' cannot be loaded: {reason}") from error
    check_tokenizer(name, tokenizer)
    if fits is not None:
        check_fit(name, tokenizer, fits)
    return tokenizer


def _sentencepiece_alone(directory: Path) -> str | None:
    """Why a directory's tokenizer is not loaded that is a SentencePiece file and nothing else."""
    files = vocabulary_files(directory) if directory.is_dir() else []
    models = [name for name in files if name.endswith((".model", ".spm"))]
    if not models or "tokenizer.json" in files:
        return None
    return (
        f"its vocabulary is a SentencePiece file alone ({models[0]}), and there is no "
        "tokenizer.json. Write one: pip install sentencepiece protobuf, then in Python "
        f"transformers.AutoTokenizer.from_pretrained('{directory}').save_pretrained('{directory}')"
    )


def load_config(
    name: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> PretrainedConfig:
    """A network's configuration, without its weights.

    Raises:
        UserError: It cannot be loaded, its files are damaged, its type is not supported, or it
            describes a network that would be another one here.
    """
    name = place_of(name)
    if Path(name).is_dir():
        check_files(Path(name))
    try:
        config = open_config(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise UserError(f"the model '{name}' cannot be loaded: {first_line(error)}") from error
    family_of(config)
    check_config(name, config)
    return config


def recompute_activations(network: PreTrainedModel) -> None:
    """Switch it on for every transformer layer, in train mode alone.

    Raises:
        UserError: The network (code that came with a hub model) is not written for it.
    """
    if not network.supports_gradient_checkpointing:
        raise UserError(
            f"hardware.activation_checkpointing: {type(network).__name__} does not support it; "
            "set it to false"
        )
    options = {"use_reentrant": False}  # works with frozen layers and with DDP
    if hasattr(network, "activation_checkpointing_enable"):  # the name since transformers 5.2x
        network.activation_checkpointing_enable(options)
    else:
        network.gradient_checkpointing_enable(options)
