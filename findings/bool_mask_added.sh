#!/bin/sh
# transformers: a square attention mask of truth values hides tokens under sdpa, not under eager.
#
# Guess    a mask [B, 1, L, L] of dtype bool hides where it is False, however attention is computed
# Seen     transformers 5.23.0: in BERT under sdpa a hidden token changes no logit of the others.
#          Under eager the mask is added to the scores as 0 and 1: the hidden token is seen, and
#          nothing is said. MegatronBERT, SqueezeBERT, RemBERT and MPNet know eager alone. As numbers
#          (0 and the least float) the mask hides in all of them.
# Matters  packed rows and prefix masks of truth values leak from row to row
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
ids = torch.arange(10, 20)[None]
other = ids.clone()
other[0, -1] = 30
shown = torch.ones(1, 1, 10, 10, dtype=torch.bool)
shown[..., -1] = False  # nobody sees the last token
added = torch.zeros(1, 1, 10, 10).masked_fill(~shown, torch.finfo(torch.float32).min)
for kind in ("bert", "bert eager", "megatron-bert", "squeezebert", "rembert", "mpnet"):
    name = kind.split()[0]
    torch.manual_seed(0)
    own = {"embedding_size": 32} if kind in ("squeezebert", "rembert") else {}
    config = AutoConfig.for_model(name, **sizes, **own)
    way = "sdpa" if kind == "bert" else "eager"
    model = AutoModelForMaskedLM.from_config(config, attn_implementation=way).eval()
    with torch.no_grad():
        moved = [(model(ids, attention_mask=mask).logits - model(other, attention_mask=mask).logits)
                 [0, :-1].abs().max().item() for mask in (shown, added)]
    print(kind, *("leaks" if value > 1e-2 else "hides" if value < 1e-4 else value for value in moved))
PY
)
echo "$seen"
[ "$seen" = "bert hides hides
bert eager leaks hides
megatron-bert leaks hides
squeezebert leaks hides
rembert leaks hides
mpnet leaks hides" ] || { echo "this has changed" >&2; exit 1; }
