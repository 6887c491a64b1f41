#!/bin/sh
# transformers: a directory with config.json and no tokenizer files "has" a tokenizer.
#
# Guess    AutoTokenizer.from_pretrained of a directory that holds config.json alone is an error
# Seen     transformers 5.23.0: a tokenizer without a warning. For model_type roberta it has five
#          tokens, its <pad> is 0 where the config says 1 and its <s> is 2 where the config says 0;
#          every text has no tokens at all.
# Matters  weights copied without their tokenizer train on nothing, and perplexities look perfect
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0
cd "$folder"
mkdir model
cat > model/config.json <<'JSON'
{"model_type": "roberta", "architectures": ["RobertaForMaskedLM"], "vocab_size": 50265,
 "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
 "max_position_embeddings": 514, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
JSON
seen=$(HF_HUB_OFFLINE=1 venv/bin/python - 2> errors <<'PY'
from transformers import AutoConfig, AutoTokenizer

config = AutoConfig.from_pretrained("model")
tokenizer = AutoTokenizer.from_pretrained("model")
print("tokens", len(tokenizer), "of", config.vocab_size)
print("pad", tokenizer.pad_token_id, "config", config.pad_token_id)
print("bos", tokenizer.bos_token_id, "config", config.bos_token_id)
print(tokenizer.tokenize("two dogs run"))
PY
) || { cat errors >&2; echo "this has changed" >&2; exit 1; }
echo "$seen"
! grep -v "PyTorch was not found" errors | grep -i tokenizer || { echo "it warns: this has changed" >&2; exit 1; }
[ "$seen" = "tokens 5 of 50265
pad 0 config 1
bos 2 config 0
[]" ] || { echo "this has changed" >&2; exit 1; }
