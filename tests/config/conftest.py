"""A recipe of every stage kind, and a way to write variations of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """
data:
  train: [{generator: words, count: 100}]
  validation: [{path: valid.jsonl, hub: owner/pairs}]
model: {hidden_size: 64, num_heads: 4}
optim: {lr: 1e-4}
train: {steps: 100, global_batch_size: 8}
stages:
  vocabulary: {kind: tokenizer}
  pretrain: {kind: pretrain, tokenizer: vocabulary, optim: {lr: 2e-4}}
  adapt: {kind: adapt, init_from: pretrain}
  length: {kind: length, init_from: adapt}
  twin: {kind: autoregressive, tokenizer: vocabulary}
  scores:
    kind: evaluate
    evaluation:
      systems:
        diffusion: {model: length, generation: {num_iterations: 4}}
        left-to-right: {model: twin}
      tasks: [words]
      compare: [[diffusion, left-to-right]]
"""

WriteRecipe = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteRecipe:
    """Write a recipe file: ``write(text, name)``."""

    def write_recipe(text: str = RECIPE, name: str = "chain.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_recipe


@pytest.fixture
def chain(write: WriteRecipe) -> Path:
    """The valid recipe above."""
    return write()
