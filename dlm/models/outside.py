"""The one place where configurations, tokenizers and networks are opened by transformers.

A model may bring Python code of its own (``auto_map`` in its JSON files). Where nobody says whether
to run it, transformers asks on the terminal and takes a "y" from standard input; so it is always
said here, and nothing else in the package calls ``from_pretrained`` or ``from_config``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from dlm.errors import UserError, first_line
from dlm.models.families import family_of, is_causal
from dlm.saying import say_once

REMEDY = (
    "if you trust where it comes from, set model.trust_remote_code: true in the recipe (at its top "
    "for evaluate and generate stages), or give --trust-remote-code on the command line"
)


def open_config(
    name: str | Path,
    *,
    trust_remote_code: bool,
    revision: str | None = None,
    local_files_only: bool = False,
) -> PretrainedConfig:
    """A network's configuration.

    Raises:
        UserError: It needs code of its own, which is not to be run.
        OSError, ValueError: transformers cannot read it.
    """
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            name, revision=revision, local_files_only=local_files_only,
            trust_remote_code=trust_remote_code,
        )  # fmt: skip
    except StrictDataclassError as error:  # a setting of another type; it is no ValueError
        raise ValueError(first_line(error)) from error
    except (OSError, ValueError) as error:
        _refuse_own_code(name, error, trust_remote_code)
        raise
    _say_ignored(name, trust_remote_code)
    return config


def open_tokenizer(
    name: str | Path, *, trust_remote_code: bool, revision: str | None = None
) -> PreTrainedTokenizerBase:
    """A tokenizer.

    Raises:
        UserError: It needs code of its own, which is not to be run.
        Exception: The tokenizers library cannot read it; it raises no kind of its own.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        _refuse_own_code(name, error, trust_remote_code)
        raise
    _say_ignored(name, trust_remote_code)
    return tokenizer


def open_network(
    name: str | Path,
    config: PretrainedConfig,
    *,
    trust_remote_code: bool,
    revision: str | None = None,
) -> tuple[Any, dict[str, Any]]:
    """A masked or causal language model with float32 weights, and what was missing or left over.

    Raises:
        UserError: It needs code of its own, which is not to be run.
        OSError, ValueError, SafetensorError: transformers cannot read it.
    """
    try:
        network, loading = _auto_model(config).from_pretrained(
            name, config=config, dtype=torch.float32, attn_implementation=_attention(config),
            use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True,
            revision=revision, trust_remote_code=trust_remote_code,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        _refuse_own_code(name, error, trust_remote_code)
        raise
    return network, loading


def new_network(config: PretrainedConfig, *, trust_remote_code: bool = False) -> Any:
    """The language model that a configuration describes, with random weights."""
    network: nn.Module = _auto_model(config).from_config(
        config, attn_implementation=_attention(config), trust_remote_code=trust_remote_code
    )
    return network


def meta_network(config: PretrainedConfig, *, trust_remote_code: bool = False) -> Any:
    """The same, its tensors without storage."""
    with torch.device("meta"):
        return new_network(config, trust_remote_code=trust_remote_code)


def config_of_type(model_type: str, **settings: Any) -> PretrainedConfig:
    """A configuration of one of transformers' own types."""
    config: PretrainedConfig = AutoConfig.for_model(model_type, **settings)
    return config


def own_code(name: str | Path) -> tuple[str, ...]:
    """The classes that a model directory brings along, as its JSON files name them."""
    found: set[str] = set()
    for file in ("config.json", "tokenizer_config.json"):
        try:
            auto_map = json.loads((Path(name) / file).read_text(encoding="utf-8")).get("auto_map")
        except (OSError, ValueError, AttributeError):
            continue  # whether the file is whole is looked at elsewhere
        values = auto_map.values() if isinstance(auto_map, dict) else [auto_map]
        for value in values:
            found.update(str(c) for c in (value if isinstance(value, list) else [value]) if c)
    return tuple(sorted(found))


def own_code_text(name: str | Path) -> str:
    """That a model brings code which is not run, and the remedy."""
    classes = ", ".join(own_code(name)[:3])
    shown = f" (auto_map: {classes})" if classes else ""
    return f"'{name}' comes with code of its own{shown}, which is not run; {REMEDY}"


def _refuse_own_code(name: str | Path, error: Exception, trusted: bool) -> None:
    if not trusted and (own_code(name) or "trust_remote_code" in str(error)):
        raise UserError(f"{own_code_text(name)}. Without it: {first_line(error)}") from error


def _say_ignored(name: str | Path, trusted: bool) -> None:
    if not trusted and own_code(name):
        line = f"{own_code_text(name)}. It is opened by transformers' own classes"
        say_once(name, line, about="own code")


def _attention(config: PretrainedConfig) -> str:
    """transformers' name for attention by its own functions, or by code of the network's own."""
    return "sdpa" if family_of(config).own_attention is None else "eager"


def _auto_model(config: PretrainedConfig) -> Any:
    return AutoModelForCausalLM if is_causal(config.model_type) else AutoModelForMaskedLM
