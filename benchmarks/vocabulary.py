"""Training steps of a model with its whole vocabulary and cut to its rows' tokens, in turn.

    python benchmarks/vocabulary.py MODEL_DIR ROWS.jsonl [--rounds 10]

Both read the same rows with the same half of the response's tokens masked; time is the processor's.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from dlm.data.rows.encoding import EncodedRows, encode_rows
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone, load_tokenizer
from dlm.models.cut_tokenizer import cut_tokenizer, tokens_to_keep
from dlm.models.vocabulary import cut_network
from dlm.tokens.special import SpecialTokens

ROWS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = [json.loads(line) for line in options.rows.read_text().splitlines()]
    sources, targets = [row["src"] for row in pairs], [row["tgt"] for row in pairs]

    tokenizer = load_tokenizer(options.model)
    whole_rows = encode_rows(tokenizer, sources, targets, conditional=True)
    systems = {"whole": (load_backbone(options.model, dropout=0.0), tokenizer, whole_rows)}
    for name, characters in (("used, characters", True), ("used", False)):
        kept = tokens_to_keep(tokenizer, set(whole_rows.tokens.tolist()), characters=characters).ids
        backbone, cut = load_backbone(options.model, dropout=0.0), cut_tokenizer(tokenizer, kept)
        cut_network(backbone.network, kept)
        systems[name] = backbone, cut, encode_rows(cut, sources, targets, conditional=True)

    seconds, tokens = dict.fromkeys(systems, 0.0), 0
    losses: dict[str, float] = {}
    optimizers = {n: torch.optim.AdamW(b.parameters(), lr=1e-4) for n, (b, _, _) in systems.items()}
    for number in range(options.rounds + 2):
        for name, (backbone, own, rows) in systems.items():
            special = SpecialTokens.of(own)
            inputs_BL, targets_BL, valid_BL, noisy_BL = batch(rows, number, special)
            started = time.process_time()
            losses[name] = step(
                backbone, optimizers[name], inputs_BL, targets_BL, valid_BL, noisy_BL
            )
            if number >= 2:  # warm
                seconds[name] += time.process_time() - started
        tokens += int(valid_BL.sum()) if number >= 2 else 0
    print("| vocabulary | tokens | parameters | tokens/s | loss of the last step |")
    print("|---|---|---|---|---|")
    for name, (backbone, _, _) in systems.items():
        count = sum(parameter.numel() for parameter in backbone.parameters())
        speed = tokens / seconds[name]
        print(
            f"| {name} | {backbone.vocab_size:,} | {count:,} | {speed:,.0f} | {losses[name]:.3f} |"
        )


def batch(
    rows: EncodedRows, number: int, special: SpecialTokens
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy tokens, clean ones, which are real, which are noise; [B, L] each."""
    chosen = range(number * ROWS, (number + 1) * ROWS)
    width = max(len(rows.row(i)) for i in chosen)
    clean_BL = torch.full((ROWS, width), special.pad)
    noisy_BL = torch.zeros(ROWS, width, dtype=torch.bool)
    for place, index in enumerate(chosen):
        row = torch.from_numpy(rows.row(index))
        clean_BL[place, : len(row)] = row
        noisy_BL[place, int(rows.prompt_lengths[index]) : len(row) : 2] = True
    valid_BL = torch.arange(width) < torch.tensor([[len(rows.row(i))] for i in chosen])
    return clean_BL.masked_fill(noisy_BL, special.mask), clean_BL, valid_BL, noisy_BL


def step(
    backbone: Backbone, optimizer: torch.optim.Optimizer, inputs_BL: Tensor, targets_BL: Tensor,
    valid_BL: Tensor, noisy_BL: Tensor,
) -> float:  # fmt: skip
    """One training step; gives its loss."""
    hidden_MH = backbone.hidden(inputs_BL, valid_BL)[noisy_BL]
    loss = backbone.token_losses(hidden_MH, targets_BL[noisy_BL]).cross_entropy_M.mean()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss)


if __name__ == "__main__":
    main()
