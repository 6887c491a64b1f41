"""Memory that a training step keeps for its backward pass, with and without
``hardware.activation_checkpointing``, and the time of a step.

    python benchmarks/activations.py [--layers 12] [--hidden 512] [--rows 16] [--length 128]
"""

import argparse
import time

import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from dlm.models.backbone import Backbone
from dlm.models.build import recompute_activations


def measure(layers: int, hidden: int, rows: int, length: int, recomputed: bool) -> None:
    """One line: bytes kept (each storage once, weights left out) and the faster of two steps."""
    config = AutoConfig.for_model(
        "xlm-roberta", vocab_size=8000, hidden_size=hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, intermediate_size=4 * hidden,
    )  # fmt: skip
    torch.manual_seed(0)
    network = AutoModelForMaskedLM.from_config(config, attn_implementation="sdpa").train()
    backbone = Backbone(network)
    if recomputed:
        recompute_activations(network)
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    tokens_BL = torch.randint(5, 8000, (rows, length))
    valid_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
    seconds, kept = [], {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    for _ in range(2):
        kept.clear()
        torch.manual_seed(1)
        begin = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = backbone.hidden(tokens_BL, valid_BL).pow(3).mean()
        loss.backward()
        seconds.append(time.perf_counter() - begin)
    name = "inputs of layers" if recomputed else "everything"
    mebibytes = sum(kept.values()) / 2**20
    print(f"{name:17} {mebibytes:8.1f} MiB {min(seconds):6.2f} s loss {loss.item():.9f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for option, default in {"layers": 12, "hidden": 512, "rows": 16, "length": 128}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    arguments = vars(parser.parse_args())
    for recomputed in (False, True):
        measure(**arguments, recomputed=recomputed)
