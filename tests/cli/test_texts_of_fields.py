"""Answers in the letters of their field: right tokens are right texts, wherever they are shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_tools import Caller
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    EsmTokenizer,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
)

from dlm.export.diffusion_generate import DiffusionModel
from dlm.export.diffusion_generate import generate as generate_alone

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
RECIPE = """
data: {{task: paraphrase, max_length: 60, root: {root}}}
hardware: {{accelerator: cpu, num_threads: 1}}
optim: {{lr: 5.0e-3, warmup_steps: 10}}
model: {{dropout: 0.0}}
train: {{global_batch_size: 8}}
generation: {{num_iterations: 20, length: oracle}}
validation: {{every_n_steps: 100, metric: exact_match, generate_rows: 4}}
stages:
  adapt:
    kind: adapt
    model: {{pretrained: {root}/model}}
    data: {{train: [{{path: pairs.jsonl}}], validation: [{{path: pairs.jsonl}}]}}
    train: {{steps: 100}}
"""


def fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def letters(place: Path) -> Any:
    """DNA, as a rule without a decoder."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *"ACGT"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return fast(tokenizer)


def residues(place: Path) -> Any:
    """Proteins: ESM's, which is written in Python and knows no split_special_tokens."""
    (place / "vocab.txt").write_text(
        "\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<mask>"])
    )
    return EsmTokenizer(str(place / "vocab.txt"))


def code(place: Path) -> Any:
    """Byte-level, as of models of code: every blank and line end comes back."""
    vocabulary = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: id_ for id_, token in enumerate(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return fast(tokenizer)


FIELDS: dict[str, tuple[Callable[[Path], Any], list[str], str, dict[str, str]]] = {
    "DNA": (letters, ["ATCCCC", "AAAAGT", "CTATAG"], "ACGTTGCAACGG",
            {"between": "joined", "ends": "cut"}),
    "proteins": (residues, ["MPQCKT", "MTKCVA", "MLRDYP"], "MKTAYIAKQRQIS",
                 {"between": "joined", "ends": "cut"}),
    "code": (code, ["def f(x):", "def g(x):\n", "\tif x:"], "    return x + 1\n",
             {"between": "decoded", "ends": "kept"}),
}  # fmt: skip


def network(tokenizer: Any) -> Any:
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 64, "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 96, "initializer_range": 0.2,
    }  # fmt: skip
    torch.manual_seed(0)
    if tokenizer.sep_token_id is None:
        return BertForMaskedLM(BertConfig(**sizes))
    ends: dict[str, Any] = {
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    return ModernBertForMaskedLM(ModernBertConfig(**sizes, **ends))


@pytest.mark.parametrize("field", FIELDS)
def test_right_tokens_are_the_text_as_it_was(field: str, tmp_path: Path, call: Caller) -> None:
    """In validation, in what is shown of the rows, and by the script of the export."""
    make, asked, answer, form = FIELDS[field]
    (tmp_path / "model").mkdir()
    tokenizer = make(tmp_path)
    network(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [json.dumps({"src": prompt, "tgt": answer}) for prompt in asked]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "r.yaml").write_text(RECIPE.format(root=tmp_path))
    outcome = call("run", tmp_path / "r.yaml", "--run-dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    stage = tmp_path / "run" / "01_adapt"
    metrics = json.loads((stage / "manifest.json").read_text())["metrics"]
    assert metrics["validation_exact_match"] == 100 and "validation_reachable" not in metrics
    export = stage / "export"
    assert json.loads((export / "dlm.json").read_text())["text"] == form
    samples = (stage / "samples" / "step=00000100.jsonl").read_text().splitlines()
    assert {json.loads(row)["hypothesis"] for row in samples} == {answer}

    length = len(tokenizer(answer, add_special_tokens=False)["input_ids"])
    script = DiffusionModel(export)
    alone = [generate_alone(script, prompt, length, num_iterations=20) for prompt in asked]
    assert alone == [answer] * len(asked)
    shown = call("data", "inspect", tmp_path / "r.yaml", "--run-dir", tmp_path / "run")
    assert f"response  {answer!r}" in shown.out
    stats = call("data", "stats", tmp_path / "r.yaml", "--run-dir", tmp_path / "run")
    assert "comes back  100.0% of the first 3" in stats.out and "refused" not in stats.out


def test_rows_in_capitals_before_a_tokenizer_that_lowers_them_are_refused_by_validate(
    tmp_path: Path, call: Caller
) -> None:
    """Antibodies: BertTokenizer lowers case where no tokenizer_config.json says otherwise."""
    vocabulary = {token: id_ for id_, token in enumerate([*SPECIAL, *"ACDEFGHIKLMNPQRSTVWY"])}
    tokenizer = BertTokenizer(vocab=vocabulary)
    network(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    row = json.dumps({"src": "Q V Q L", "tgt": "E S G P G"}) + "\n"
    (tmp_path / "pairs.jsonl").write_text(row * 4)
    (tmp_path / "r.yaml").write_text(RECIPE.format(root=tmp_path))
    refused = call("validate", tmp_path / "r.yaml")
    assert refused.code == 2 and "100.0% of the rows' tokens are unknown" in refused.err
    assert "set do_lower_case to false in its tokenizer_config.json" in refused.err
    (tmp_path / "pairs.jsonl").write_text(row.lower() * 4)  # nor is this text known
    assert call("validate", tmp_path / "r.yaml").code == 2
