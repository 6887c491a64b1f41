"""The smallest real causal language models, and tokenizers that lack what theirs lack."""

from pathlib import Path

import torch
from tiny_backbones import TEXTS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from dlm.models.backbone import Backbone

CAUSAL = ["gpt2", "llama", "qwen2"]
ENDS = {
    "gpt2": dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|end|>"),
    "llama": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "qwen2": {"eos_token": "<|end|>", "pad_token": "<|end|>"},
}
"""The special tokens that each family has: no mask anywhere, a pad and no begin in Qwen2."""


def tiny_network(model_type: str, vocab_size: int = 60, seed: int = 1) -> PreTrainedModel:
    """In eval mode, with matrices drawn so large that every token changes every logit."""
    config = AutoConfig.for_model(
        model_type, vocab_size=vocab_size, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=40, bos_token_id=0, eos_token_id=0,
        pad_token_id=None,
    )  # fmt: skip
    for name, value in {"intermediate_size": 32, "num_key_value_heads": 1}.items():
        if hasattr(config, name):
            setattr(config, name, value)
    network = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.3, generator=generator)
    return network


def causal_backbone(model_type: str) -> Backbone:
    return Backbone(tiny_network(model_type))


def causal_tokenizer(model_type: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as theirs are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ENDS[model_type]
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=list(dict.fromkeys(names.values())), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def write_directory(directory: Path, model_type: str, spare_rows: int = 0) -> None:
    """A Hugging Face directory."""
    tokenizer = causal_tokenizer(model_type)
    tiny_network(model_type, len(tokenizer) + spare_rows).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
