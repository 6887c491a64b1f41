#!/bin/sh
# transformers: encoders in which padding under the attention mask changes the logits of a row.
#
# Guess    with its attention_mask a row has the same logits alone and padded, to rounding
# Seen     transformers 5.23.0: so in BERT, ELECTRA and DeBERTa v2. ConvBERT convolves neighbouring
#          tokens and Funnel pools them, padding too, and their logits move. MobileBERT joins each
#          token with its neighbours: padding of its own embedding, 0, moves nothing, and any other
#          token under the mask does.
# Matters  scores of a batch are not those of its rows
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cd "$folder"
seen=$(HF_HUB_OFFLINE=1 venv/bin/python - <<'PY'
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.3}
own = {
    "electra": {"embedding_size": 32},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 1},
    "convbert": {"embedding_size": 32, "conv_kernel_size": 3},
    "funnel": {"block_sizes": [1, 1], "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64},
}
ids = torch.arange(10, 20)[None]
mask = torch.ones(1, 16, dtype=torch.long)
mask[0, 10:] = 0
for kind in ("bert", "electra", "deberta-v2", "mobilebert", "convbert", "funnel"):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **({} if kind == "funnel" else sizes), **own.get(kind, {}),
                                  **({"vocab_size": 40} if kind == "funnel" else {}))
    model = AutoModelForMaskedLM.from_config(config).eval()
    with torch.no_grad():
        alone = model(ids, attention_mask=torch.ones_like(ids)).logits
        padded, other = (
            model(torch.cat([ids, torch.full((1, 6), pad)], 1), attention_mask=mask).logits[:, :10]
            for pad in (0, 30)
        )
    moved = ((padded - alone).abs().max().item(), (padded - other).abs().max().item())
    print(kind, *("moves" if value > 1e-2 else "same" if value < 1e-4 else value for value in moved))
PY
)
echo "$seen"
[ "$seen" = "bert same same
electra same same
deberta-v2 same same
mobilebert same moves
convbert moves moves
funnel moves moves" ] || { echo "this has changed" >&2; exit 1; }
