"""Tiny Hugging Face directories of every family, and a chain that begins with one of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedTokenizerFast,
)

from dlm.config.loading import load_recipe
from dlm.data.generated import generate as generated_rows
from dlm.recipe.runner import run_recipe

Finished = Callable[[str], Path]
"""Family -> the run directory of adapt, length and scores on it."""
CAUSAL = ("gpt2", "llama", "qwen2")
MASKED = ("xlm-roberta", "roberta", "bert", "modernbert", "eurobert")
OTHERS: dict[str, dict[str, Any]] = {
    "electra": {"embedding_size": 12}, "distilbert": {"hidden_dim": 32},
    "ernie": {}, "roberta-prelayernorm": {}, "data2vec-text": {}, "megatron-bert": {},
    "esm": {"position_embedding_type": "rotary", "token_dropout": True},
    "albert": {"embedding_size": 12}, "mpnet": {},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"],
                   "position_buckets": 16, "share_att_key": True, "position_biased_input": False},
    "nomic_bert": {}, "gte": {}, "jina_embeddings_v3": {}, "esmc": {},
    "squeezebert": {"embedding_size": 16, "q_groups": 2, "k_groups": 2, "v_groups": 2,
                    "intermediate_groups": 2, "output_groups": 2},
    "rembert": {"input_embedding_size": 12, "output_embedding_size": 20},
}  # fmt: skip
"""Other encoders, and what of their configurations is not as in the rest."""
_BERT = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]",
         "unk_token": "[UNK]"}  # fmt: skip
_ROBERTA = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
            "mask_token": "<mask>"}  # fmt: skip
SPECIAL: dict[str, dict[str, str]] = {
    "gpt2": dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
    "llama": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "qwen2": {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    "xlm-roberta": _ROBERTA, "roberta": _ROBERTA, "bert": _BERT, "modernbert": _BERT,
    "eurobert": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>",
                 "pad_token": "<|end_of_text|>", "mask_token": "<|mask|>"},
    **dict.fromkeys(OTHERS, _ROBERTA),
}  # fmt: skip
"""The special tokens that each family's tokenizer has, in the order of their ids."""


def write_family(directory: Path, family: str, **changes: Any) -> Path:
    """A directory as the hub has them: config, weights, tokenizer; dropout 0.1 where it can be;
    ``changes`` of its config."""
    tokenizer = _tokenizer(family)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 130,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None if family in CAUSAL else tokenizer.pad_token_id,
    }  # fmt: skip
    if family == "gpt2":
        sizes["n_inner"] = 32
    elif family in CAUSAL:
        sizes |= {"num_key_value_heads": 1, "intermediate_size": 32, "attention_dropout": 0.1}
    else:
        sizes["intermediate_size"] = 32
    if family == "modernbert":
        sizes |= {"global_attn_every_n_layers": 2, "local_attention": 16, "mlp_dropout": 0.1}
    sizes |= OTHERS.get(family, {})
    if family == "distilbert":
        del sizes["intermediate_size"]
    if family in ("eurobert", "esm", "esmc"):
        sizes["mask_token_id"] = tokenizer.mask_token_id
    config = AutoConfig.for_model(family, **(sizes | changes))
    kind = AutoModelForCausalLM if family in CAUSAL else AutoModelForMaskedLM
    torch.manual_seed(0)
    kind.from_config(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Unigram, WordPiece or byte-level BPE, as the family's own."""
    names = SPECIAL[family]
    options: dict[str, Any] = {
        "special_tokens": list(dict.fromkeys(names.values())), "show_progress": False,
    }  # fmt: skip
    trainer: Any
    if family == "xlm-roberta":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=150, unk_token="<unk>", **options)
    elif family == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=200, **options)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=350, initial_alphabet=alphabet, **options)
    rows = generated_rows("number_pairs", split="train", count=200, seed=0)
    tokenizer.train_from_iterator([text for row in rows for text in row.values()], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


RECIPE = """
model: {pretrained: DIRECTORY}
data:
  max_length: 128
  train: [{generator: number_pairs, count: 60}]
  validation: [{generator: number_pairs, count: 8}]
optim: {lr: 1.0e-3, schedule: constant}
train: {steps: 6, global_batch_size: 8}
validation: {every_n_steps: 6, generate_rows: 2, metric: chrf}
checkpoint: {every_n_steps: 2}
hardware: {accelerator: cpu, num_threads: 1}
generation: {num_iterations: 2, length_beam: 2}
stages:
  adapt:
    kind: adapt
  length:
    kind: length
    init_from: adapt
    length: {max_response_length: 24, num_heads: 2}
  scores:
    kind: evaluate
    evaluation:
      systems: {predicted: {model: length}, oracle: {model: adapt, generation: {length: oracle}}}
      tasks: [numbers_en_de]
      limit: 2
      bootstrap_samples: 10
"""
"""adapt, length and evaluate, a handful of steps each."""


def run_family(model: Path, run_dir: Path, *overrides: str, more: str = "", **options: Any) -> int:
    """``dlm run`` of the chain above, and of ``more`` stages behind it, on a model's directory;
    gives the exit code."""
    recipe = run_dir.parent / f"{run_dir.name}.yaml"
    recipe.write_text(RECIPE.replace("DIRECTORY", str(model)) + more, encoding="utf-8")
    return run_recipe(load_recipe(str(recipe), list(overrides)), run_dir, command="dlm", **options)


def export_of(run_dir: Path, stage: str) -> Path:
    return next(run_dir.glob(f"*_{stage}")) / "export"
