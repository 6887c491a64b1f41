"""What dlm plan says beside what is measured: python benchmarks/plan.py [tiny] [base]

Each shape is trained for one step of a masked-LM stage by `dlm run`, in a process of its own, from
random weights in a Hugging Face directory made here. On a CPU the sizes that must be exact are
measured: parameters, weights, optimizer state, checkpoint and export on disk. On a GPU the peak of
torch's memory is compared too, without the 2 GiB set aside (base: 6 GiB of disk and 10 of memory).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 256,
    },
    "base": {
        "vocab_size": 250_002, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072,
    },
}  # fmt: skip
RECIPE = """
data: {{max_length: 64, task: text}}
train: {{steps: 1, global_batch_size: {rows}, precision: {precision}}}
validation: {{every_n_steps: 1}}
hardware: {{accelerator: {accelerator}, devices: 1, num_threads: 2}}
stages:
  pretrain:
    kind: pretrain
    init_from: {model}
    data: {{train: [{{generator: number_text, count: 64}}]}}
"""


def main() -> None:
    """Measure every shape, each in its own process, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=[], help="tiny, base (both)")
    parser.add_argument("--rows", type=int, default=4, help="rows of the step")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _measure(options.child, options.rows, options.precision)
        return
    print("| shape | what | planned | measured | measured / planned |\n|---|---|---|---|---|")
    for shape in options.shapes or list(SHAPES):
        words = ["--child", shape, "--rows", str(options.rows), "--precision", options.precision]
        done = subprocess.run(
            [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
        )
        for row in json.loads(done.stdout.splitlines()[-1]):
            what, planned, measured = row
            ratio = f"{measured / planned:.6f}"
            print(f"| {shape} | {what} | {planned:,} | {measured:,} | {ratio} |", flush=True)


def _measure(shape: str, rows: int, precision: str) -> None:
    import torch

    from dlm.cli import main as dlm

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write_model(place / "model", SHAPES[shape])
        gpu = torch.cuda.is_available()
        (place / "recipe.yaml").write_text(
            RECIPE.format(
                rows=rows, precision=precision, model=place / "model",
                accelerator="gpu" if gpu else "cpu",
            )
        )  # fmt: skip
        planned = _planned(place / "recipe.yaml")
        words = ["run", str(place / "recipe.yaml"), "--run-dir", str(place / "run")]
        if dlm(words):
            raise SystemExit("the run failed")
        peak = torch.cuda.max_memory_allocated() if gpu else None
        print(json.dumps(_compare(planned, place / "run", peak)))


def _write_model(directory: Path, sizes: dict[str, int]) -> None:
    """Random weights of XLM-R's architecture, and a tokenizer with as many words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast, XLMRobertaConfig

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = [*special, *(f"w{number}" for number in range(sizes["vocab_size"] - len(special)))]
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), special, strict=True))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>",
        **{f"{name}_token": token for name, token in names.items()},
    )  # fmt: skip
    config = XLMRobertaConfig(
        **sizes, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
        eos_token_id=2,
    )  # fmt: skip
    AutoModelForMaskedLM.from_config(config).save_pretrained(directory)
    fast.save_pretrained(directory)


def _planned(recipe: Path) -> dict[str, Any]:
    from dlm.config.loading import load_recipe
    from dlm.planning.memory import GIB
    from dlm.planning.stage_plan import Cluster, plan_stage
    from dlm.verbs.plan_inputs import KnownRows, stage_inputs
    from dlm.verbs.plan_tables import as_json

    inputs = stage_inputs(load_recipe(recipe), "pretrain", KnownRows())
    return as_json(plan_stage(inputs, Cluster(1, 1, 1000 * GIB, 100.0, 0.35)))


def _compare(planned: dict[str, Any], run: Path, peak: int | None) -> list[tuple[str, int, int]]:
    import torch
    from safetensors import safe_open

    stage = next(run.glob("*_pretrain"))
    state = next((stage / "checkpoints").glob("step=*")) / "state.ckpt"
    saved = torch.load(state, map_location="cpu", weights_only=True, mmap=True)
    moments = [
        value
        for of_parameter in saved["optimizer_states"][0]["state"].values()
        for value in of_parameter.values()
        if value.dim()  # the counts of steps are four bytes each
    ]
    weights = {t.untyped_storage().data_ptr(): t for t in saved["state_dict"].values()}
    export = stage / "export" / "model.safetensors"
    with safe_open(export, framework="pt") as file:
        exported = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    memory = planned["chosen"]["memory"]
    rows = [
        ("parameters", planned["parameters"]["total"], exported),
        ("weights, bytes", memory["weights"], sum(t.nbytes for t in weights.values())),
        ("optimizer state, bytes", memory["optimizer"], sum(t.nbytes for t in moments)),
        ("checkpoint file, bytes", planned["checkpoint_bytes"], state.stat().st_size),
        ("export's weights file, bytes", planned["export_bytes"], export.stat().st_size),
    ]
    if peak is not None:
        rows.append(("peak on the GPU, bytes", memory["total"] - memory["overhead"], peak))
    return rows


if __name__ == "__main__":
    main()
