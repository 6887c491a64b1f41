"""Training steps as they usually are and as they are here, in turn in one process on the same rows.

    python benchmarks/train_step.py --shape small [--device cpu] [--steps 6] [--micro 16 32 64]
        [--compiled] [--attention prefix_lm] [--pairs multi30k/de-en/train.jsonl --tokenizer DIR]

The usual way: padded rows, the Hugging Face model as it comes, logits at every position. It gets
the same masks (same seed, no dropout), rows in data order or in micro-batches of like length, and
its own best micro-batch with accumulation; with --compiled it is compiled too. Ours: packed rows,
logits at masked positions only, fused AdamW; then the same with one of the optimisations switched
off at a time. Losses of all ways must agree within 1e-3 (a GPU's bf16: 2e-2), or it ends with an
error. On a GPU both run in bf16 autocast.

Prints JSON lines and a table. Tokens are real ones, pads not counted. MFU counts the arithmetic of
ours (6 x weights x real tokens, 6 x vocabulary x hidden x masked, attention) against --peak, in
TFLOP/s. A CPU is compared by its processor time (--threads 1), which other work disturbs least.
"""

import argparse
import itertools
import json
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel

from dlm.data.batches.batching import BatchRequest, TokenBatch, TokenDataset, random_ranks
from dlm.data.rows.encoding import EncodedRows, encode_rows
from dlm.diffusion.noise import ForwardProcess, NoiseKey
from dlm.diffusion.objective import Objective
from dlm.models.backbone import Backbone
from dlm.models.build import load_tokenizer, scratch_config
from dlm.stages.denoising import DenoisingStage
from dlm.stages.optimizer import OptimizerSettings

PAD, BEGIN, END, MASK = 1, 0, 2, 4
SEED = 5
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "quickstart": ("modernbert", {
        "vocab_size": 800, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 256}),
    "small": ("xlm-roberta", {
        "vocab_size": 32_000, "hidden_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "intermediate_size": 1024}),
    "base": ("xlm-roberta", {
        "vocab_size": 250_002, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072}),
    "large": ("xlm-roberta", {
        "vocab_size": 250_002, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096}),
}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How a step is made."""

    name: str
    ours: bool
    packed: bool = True
    masked_only: bool = True
    documents: bool = True
    last_layer: bool = True
    fused: bool = True
    compiled: bool = False
    by_length: bool = False
    micro: int = 0
    """Rows of a micro-batch; 0: all of the step."""


@dataclass
class Figures:
    """What a way took, over the steps after the first."""

    losses: list[float]
    seconds: list[float]
    processor_seconds: list[float]
    peak_gib: float


def rows_of(count: int, vocabulary: int) -> EncodedRows:
    """Pairs with lengths like those of Multi30k: about 52 tokens, 20 to 130 (log-normal)."""
    generator = np.random.default_rng(SEED)
    sizes = np.exp(generator.normal(np.log(24), 0.42, (2, count))).astype(np.int64).clip(9, 64)
    prompts = (sizes[0] + 1).astype(np.int32)
    lengths = prompts + sizes[1] + 1
    bounds = np.concatenate([[0], lengths.cumsum()])
    # Common tokens are commoner, so that there is something to learn.
    tokens = 5 + (generator.random(bounds[-1]) ** 3 * (vocabulary - 5)).astype(np.int32)
    tokens[bounds[:-1]] = BEGIN
    tokens[bounds[1:] - 1] = END
    return EncodedRows(tokens, bounds, prompts, [""] * count, [""] * count)


def rows_of_file(path: str, tokenizer: str, count: int) -> EncodedRows:
    """The first pairs of a file; its src and tgt."""
    with open(path, encoding="utf-8") as lines:
        pairs = [json.loads(line) for line in itertools.islice(lines, count)]
    if len(pairs) < count:
        raise SystemExit(f"{path} has {len(pairs)} rows, {count} are needed: lower --steps")
    sources, targets = ([pair[name] for pair in pairs] for name in ("src", "tgt"))
    return encode_rows(load_tokenizer(tokenizer), sources, targets, conditional=True)


def network_of(shape: str, device: str) -> PreTrainedModel:
    """Random weights, always the same; no dropout."""
    architecture, sizes = SHAPES[shape]
    tokens = {"pad_token_id": PAD, "bos_token_id": BEGIN, "eos_token_id": END}
    config = scratch_config(architecture, {**sizes, **tokens}, 512, 0.0)
    torch.manual_seed(SEED)
    network: PreTrainedModel = AutoModelForMaskedLM.from_config(config, attn_implementation="sdpa")
    return network.train().to(device)


def micro_batches(rows: EncodedRows, way: Way, step: int, size: int) -> list[TokenBatch]:
    """One step's rows, the same for every way."""
    positions = np.arange(step * size, (step + 1) * size)
    strata = random_ranks(positions)
    order = np.argsort(rows.lengths[positions], kind="stable") if way.by_length else np.arange(size)
    micro = way.micro or size
    maskable = int(rows.counted_lengths[positions].sum())
    data = TokenDataset(rows, PAD, 512 if way.packed else None)
    return [
        data.__getitems__(BatchRequest(positions[part], strata[part], size, maskable))
        for part in np.split(order, range(micro, size, micro))
    ]


def every_position_loss(
    way: Way, network: PreTrainedModel, stage: DenoisingStage, batch: TokenBatch
) -> Tensor:
    """A cross-entropy at every position: of padded rows through the whole Hugging Face model, or of
    the tokens of packed rows."""
    key = NoiseKey(SEED, batch.sample_B, batch.stratum_B, batch.global_rows)
    noised = stage.forward_process.corrupt(key, batch.maskable_BL, batch.token_index_BL)
    noisy_BL = torch.where(noised.masked_BL, MASK, batch.tokens_BL)
    row_T, column_T = torch.ones_like(batch.valid_BL).nonzero(as_tuple=True)
    if way.ours:
        row_T, column_T = batch.valid_BL.nonzero(as_tuple=True)
        hidden_BLH = stage.backbone.hidden(noisy_BL, batch.valid_BL, packing=batch.packing)
        logits_TV = stage.backbone.logits(hidden_BLH[row_T, column_T])
    else:
        logits_BLV = network(input_ids=noisy_BL, attention_mask=batch.valid_BL.long()).logits
        logits_TV = logits_BLV.flatten(0, 1)
    target_T = batch.tokens_BL[row_T, column_T]
    entropy_T = F.cross_entropy(logits_TV.float(), target_T, reduction="none")
    weight_BL = stage.objective.weights(noised.level, batch.valid_BL & ~noised.masked_BL)
    weight_BL = weight_BL * (noised.masked_BL & batch.counted_BL)
    weight_BL = weight_BL / batch.counted_BL.sum(1, keepdim=True)
    return (entropy_T * weight_BL[row_T, column_T]).sum()


def measure(
    way: Way, shape: str, rows: EncodedRows, size: int, steps: int, device: str, attention: Any
) -> Figures:
    """Train so many steps from the same weights."""
    network = network_of(shape, device)
    backbone = Backbone(network)
    backbone.attention, backbone.end_token_id = attention, END
    if not (way.ours and way.documents):
        network.set_attn_implementation("sdpa")
        backbone.say = lambda _: None
    stage = DenoisingStage(
        backbone, forward_process=ForwardProcess(times="independent"), objective=Objective(),
        mask_token_id=MASK, optimizer=OptimizerSettings(lr=1e-3, steps=steps), seed=SEED,
    )  # fmt: skip
    if way.compiled:
        (network.base_model if way.ours else network).compile(dynamic=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, fused=way.fused)
    on_gpu = device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    found = Figures([], [], [], 0.0)
    for step in range(steps):
        parts = micro_batches(rows, way, step, size)
        if way.ours and way.masked_only:  # as the data module does, on the host
            parts = [replace(part, predicted=stage.predicted(part, SEED)) for part in parts]
        if on_gpu:
            parts = [part.to(device) for part in parts]
            torch.cuda.synchronize()
        begun, processor = time.perf_counter(), time.process_time()
        losses = []
        for part in parts:
            with torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext():
                total = (
                    stage.denoising_loss(part, SEED).total
                    if way.ours and way.masked_only
                    else every_position_loss(way, network, stage, part)
                )
            loss = total / size
            loss.backward()
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        found.losses.append(float(torch.stack(losses).sum()))
        found.seconds.append(time.perf_counter() - begun)
        found.processor_seconds.append(time.process_time() - processor)
    if on_gpu:
        found.peak_gib = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.empty_cache()
    return found


def key_figures(found: Figures, tokens_a_step: float) -> dict[str, float]:
    """Of the fastest step after the first two: the machine may have other work."""
    return {
        "tokens_per_s": tokens_a_step / min(found.seconds[2:]),
        "tokens_per_processor_s": tokens_a_step / min(found.processor_seconds[2:]),
        "peak_gib": found.peak_gib,
    }


def arithmetic(shape: str, rows: EncodedRows, size: int) -> float:
    """Floating point operations of a step of ours, forward and backward (6 a weight and token)."""
    sizes = SHAPES[shape][1]
    hidden, layers = sizes["hidden_size"], sizes["num_hidden_layers"]
    matrices = 3 if SHAPES[shape][0] == "modernbert" else 2
    layer = 4 * hidden**2 + matrices * hidden * sizes["intermediate_size"]
    lengths = rows.lengths[:size].astype(float)
    attended = 12 * layers * hidden * (lengths**2).sum()
    masked = rows.counted_lengths[:size].sum() / 2
    head = masked * (hidden**2 + hidden * sizes["vocab_size"])
    return float(6 * (layers * layer * lengths.sum() + head) + attended)


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="quickstart")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, default=64, help="of a step")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--micro", type=int, nargs="+", default=[16, 64],
                        help="micro-batches that the usual way may choose from")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--attention", choices=["bidirectional", "prefix_lm"],
                        default="bidirectional", help="prefix_lm: ours alone")  # fmt: skip
    parser.add_argument("--compiled", action="store_true", help="measure compiled networks too")
    parser.add_argument("--pairs", help="JSON lines with src and tgt, in place of generated rows")
    parser.add_argument("--tokenizer", help="a directory, for --pairs")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, for MFU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    count, vocabulary = options.rows * options.steps, SHAPES[options.shape][1]["vocab_size"]
    if options.pairs:
        rows = rows_of_file(options.pairs, options.tokenizer, count)
    else:
        rows = rows_of(count, vocabulary)
    if int(rows.tokens.max()) >= vocabulary:
        parser.error(f"--pairs has tokens beyond the {vocabulary} of --shape {options.shape}")
    ours = Way("ours", ours=True)
    usual = Way("", ours=False, packed=False)
    ways = [
        replace(
            usual,
            name=f"usual, {order}{', compiled' if compiled else ''}",
            micro=micro,
            by_length=order == "like length",
            compiled=compiled,
        )
        for order in ("data order", "like length")
        for compiled in ((False, True) if options.compiled else (False,))
        for micro in options.micro
        if options.attention == "bidirectional"
    ] + [
        ours,
        *([replace(ours, name="ours, compiled", compiled=True)] if options.compiled else []),
        replace(ours, name="ours, without the fused AdamW", fused=False),
        replace(ours, name="ours, without documents' attention", documents=False),
        replace(ours, name="ours, without packing", packed=False),
        replace(ours, name="ours, without the last layer at masked tokens alone", last_layer=False),
        replace(ours, name="ours, without masked logits alone", masked_only=False),
    ]
    tokens = float(rows.lengths.sum()) / options.steps
    best: dict[str, dict[str, float]] = {}
    expected: list[float] = []
    for way in ways:
        try:
            uncut = patch.object(Backbone, "cuts_last_layer", False)
            with nullcontext() if way.last_layer else uncut:
                found = measure(
                    way, options.shape, rows, options.rows, options.steps, options.device,
                    options.attention,
                )  # fmt: skip
        except torch.OutOfMemoryError:
            print(json.dumps({"way": way.name, "micro": way.micro, "out_of_memory": True}))
            torch.cuda.empty_cache()
            continue
        expected = expected or found.losses
        difference = max(abs(a - b) for a, b in zip(expected, found.losses, strict=True))
        figures = key_figures(found, tokens)
        if options.peak:
            figures["mfu"] = (
                arithmetic(options.shape, rows, options.rows) / min(found.seconds[2:])
                / (options.peak * 1e12)
            )  # fmt: skip
        line = {"shape": options.shape, "way": way.name, "micro": way.micro, **figures,
                "losses": found.losses, "difference": difference}  # fmt: skip
        print(json.dumps(line), flush=True)
        if not difference <= (2e-2 if options.device == "cuda" else 1e-3):
            print(f"{way.name} computes something else: {found.losses}, not {expected}")
            return 1
        measured = "tokens_per_s" if options.device == "cuda" else "tokens_per_processor_s"
        if way.name not in best or figures[measured] > best[way.name][measured]:
            best[way.name] = figures
    print("| way | tokens/s | tokens/s of processor time | peak GiB | MFU | ours is |")
    print("|---|---|---|---|---|---|")
    for name, figures in best.items():
        memory = f"{figures['peak_gib']:.1f}" if options.device == "cuda" else "-"
        mfu = f"{figures['mfu']:.1%}" if "mfu" in figures else "-"
        print(
            f"| {name} | {figures['tokens_per_s']:.0f} | {figures['tokens_per_processor_s']:.0f} | "
            f"{memory} | {mfu} | {best['ours'][measured] / figures[measured]:.2f}x |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
