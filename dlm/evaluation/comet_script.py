"""Run by the interpreter that has COMET, as a file: imports nothing of ours.

``python comet_script.py MODEL < rows.json``: the last line printed is the rows' scores as JSON.
"""

import json
import sys


def main() -> None:
    """Read rows of src, mt and ref; print their scores."""
    import torch
    from comet import download_model, load_from_checkpoint

    model = load_from_checkpoint(download_model(sys.argv[1]))
    rows = json.load(sys.stdin)
    found = model.predict(rows, batch_size=16, gpus=int(torch.cuda.is_available()))
    print(json.dumps([float(score) for score in found.scores]))


if __name__ == "__main__":
    main()
