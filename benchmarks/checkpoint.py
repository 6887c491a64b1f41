"""How long a save stops training: python benchmarks/checkpoint.py TOKENIZER

Carries out `dlm run` on a network of XLM-R BASE's shape with random weights (278 million
parameters; its state is weights and two moments, 3.3 GB), which saves after every eighth step, and
prints a JSON line: seconds that training waited at each save, beside the seconds that torch.save
takes to write the same state into the same folder, without and with flushing it to the disk.
TOKENIZER is a directory with a tokenizer. Needs 14 GB of memory.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SAVES, STEPS_BETWEEN = 4, 8
RECIPE = """
description: saves at the shape of XLM-R BASE
data: {{train: [{{generator: number_text, count: 64}}], max_length: 16, too_long: drop}}
optim: {{warmup_steps: 1}}
train: {{steps: {steps}, global_batch_size: 1}}
checkpoint: {{every_n_steps: {between}, keep: 1, background: {background}}}
hardware: {{accelerator: cpu}}
stages:
  pretrain:
    kind: pretrain
    model: {{pretrained: {model}}}
    objective: {{times: independent}}
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        print(json.dumps(measure(options.tokenizer, Path(folder))), flush=True)


def measure(tokenizer: Path, folder: Path) -> dict[str, object]:
    """The run, and torch.save beside it."""
    import torch

    write_model(tokenizer, folder / "model")
    waited, at_most = stalls(folder, "true")
    (state,) = folder.glob("run/*/checkpoints/step=*/state.ckpt")
    loaded = torch.load(state, weights_only=True)
    alone, flushed = zip(*(save(loaded, folder / "again.ckpt") for _ in range(3)), strict=True)
    return {
        "parameters": parameters(loaded["state_dict"]),
        "checkpoint_gb": round(state.stat().st_size / 1e9, 2),
        # The first save also gets the memory for the copies.
        "stall_s": waited, "longest_stall_s": at_most,
        "torch_save_s": round(statistics.median(alone), 2),
        "torch_save_and_flush_s": round(statistics.median(flushed), 2),
        "stall_of_torch_save": round(waited / statistics.median(alone), 3),
    }  # fmt: skip


def parameters(state: dict[str, "torch.Tensor"]) -> int:
    """How many there are; tied ones are counted once."""
    return sum({tensor.data_ptr(): tensor.numel() for tensor in state.values()}.values())


def write_model(tokenizer: Path, directory: Path) -> None:
    """XLM-R BASE's shape, random weights, another tokenizer."""
    from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForMaskedLM

    words = AutoTokenizer.from_pretrained(tokenizer)
    config = XLMRobertaConfig(
        vocab_size=250_002, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072, max_position_embeddings=514, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    XLMRobertaForMaskedLM(config).save_pretrained(directory)
    words.save_pretrained(directory)


def stalls(folder: Path, background: str) -> tuple[float, float]:
    """Seconds that training waited at a save of a run: median, greatest."""
    recipe = folder / "saves.yaml"
    recipe.write_text(
        RECIPE.format(
            model=folder.absolute() / "model",
            steps=STEPS_BETWEEN * SAVES + 1,
            between=STEPS_BETWEEN,
            background=background,
        )
    )
    command = [Path(sys.executable).with_name("dlm"), "run", recipe, "--run-dir", folder / "run"]
    run = subprocess.run(
        [*command, f"data.cache={folder.absolute()}/cache"], capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(run.stdout + run.stderr)
    found = re.search(rf"{SAVES} saves, .* waited ([\d.]+) s \(([\d.]+) s at most", run.stdout)
    if found is None:
        raise SystemExit(run.stdout)
    return float(found[1]), float(found[2])


def save(state: dict[str, object], path: Path) -> tuple[float, float]:
    """Seconds of torch.save, and with flushing."""
    import torch

    path.unlink(missing_ok=True)
    started = time.perf_counter()
    torch.save(state, path)
    written = time.perf_counter() - started
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return written, time.perf_counter() - started


if __name__ == "__main__":
    main()
