#!/bin/sh
# safetensors: save_file ignores the umask, its files are readable by their owner alone.
#
# Guess    a file that a library writes has the mode that the umask gives (0644 under 022), as
#          json.dump, numpy.save and torch.save leave it
# Seen     safetensors 0.8.0: 0600. Bytes of safetensors.numpy.save written by hand: 0644.
# Matters  a model directory on a shared disk cannot be read by colleagues or by a server that runs
#          as somebody else; config.json beside it can
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.2.6
cd "$folder"
umask 022
seen=$(venv/bin/python - <<'PY'
import os
from pathlib import Path
import numpy as np
from safetensors.numpy import save, save_file

tensors = {"weight": np.zeros((2, 3), dtype=np.float32)}
save_file(tensors, "by_save_file.safetensors")
Path("by_hand.safetensors").write_bytes(save(tensors))
np.save("by_numpy.npy", tensors["weight"])
for name in ("by_save_file.safetensors", "by_hand.safetensors", "by_numpy.npy"):
    print(name, oct(os.stat(name).st_mode & 0o777))
PY
)
echo "$seen"
[ "$seen" = "by_save_file.safetensors 0o600
by_hand.safetensors 0o644
by_numpy.npy 0o644" ] || { echo "this has changed" >&2; exit 1; }
