#!/bin/sh
# transformers: one short row changes what BigBird says of every later row.
#
# Guess    a model in eval mode is a function of its input
# Seen     transformers 5.23.0: a row that is too short for blocks switches the model to full
#          attention, with a warning, and it stays so: the long row from before has other logits,
#          until set_attention_type("block_sparse") is called.
# Matters  a server's or an evaluation's numbers depend on which rows came first
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cd "$folder"
seen=$(HF_HUB_OFFLINE=1 venv/bin/python - 2> errors <<'PY'
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

torch.manual_seed(0)
config = AutoConfig.for_model(
    "big_bird", vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=64, max_position_embeddings=256, block_size=4, num_random_blocks=2,
    attention_type="block_sparse", initializer_range=0.3,
)
model = AutoModelForMaskedLM.from_config(config).eval()
long, short = torch.randint(5, 40, (1, 128)), torch.randint(5, 40, (1, 8))
with torch.no_grad():
    first, again = model(long).logits, model(long).logits
    model(short)
    after = model(long).logits
    model.bert.set_attention_type("block_sparse")
    back = model(long).logits
for name, logits in (("again", again), ("after a short row", after), ("set back", back)):
    moved = (logits - first).abs().max().item()
    print(name, "same" if moved < 1e-4 else "other" if moved > 1e-2 else moved)
PY
) || { cat errors >&2; exit 1; }
echo "$seen"
[ "$seen" = "again same
after a short row other
set back same" ] || { echo "this has changed" >&2; exit 1; }
