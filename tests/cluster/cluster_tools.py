"""A small recipe, `dlm` in this process, and programs that only note what they are asked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RECIPE = """
name: small
train: {steps: 4, global_batch_size: 8}
hardware: {accelerator: cpu}
stages:
  tokenizer:
    kind: tokenizer
    data: {train: [{generator: number_text, count: 9}]}
    tokenizer_training: {vocab_size: 50}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    data: {train: [{generator: number_text, count: 9}]}
  adapt:
    kind: adapt
    init_from: pretrain
    data: {train: [{generator: number_pairs, count: 9}]}
  twin:
    kind: autoregressive
    tokenizer: tokenizer
    data: {train: [{generator: number_pairs, count: 9}]}
"""

SBATCH = """\
echo "$@" >>{calls}
case "$*" in *{refused}*) echo "sbatch: error: invalid partition" >&2; exit 1;; esac
echo $(( 100 + $(wc -l <{calls}) ))
"""


@dataclass
class Outcome:
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@dataclass
class FakePrograms:
    """Programs of a cluster, in place of all others on PATH; what they are asked is kept."""

    folder: Path
    calls: Path

    def write(self, name: str, script: str) -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{script}")
        file.chmod(0o755)

    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []
