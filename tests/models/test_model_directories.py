"""A model directory that is not whole, or not what it says, is refused by what is wrong."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_backbones import ARCHITECTURES, from_scratch, padded, random_rows, tiny_tokenizer
from tiny_causal import CAUSAL, write_directory
from transformers import AutoConfig, AutoTokenizer

from dlm.config.loading import load_recipe
from dlm.errors import UserError
from dlm.generation.model import open_model
from dlm.models.build import check_model_directory, load_backbone, load_tokenizer
from dlm.models.checkpoint import check_loaded
from dlm.models.checkpoint_files import weight_shapes
from dlm.models.fresh_head import FreshHead
from dlm.models.positions import positions
from dlm.tokens.special import SpecialTokens
from dlm.verbs.names import unknown_names

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 17671552\n"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def written(directory: Path, architecture: str = "bert", **changes: Any) -> Path:
    """A whole model directory; ``changes`` go into its config.json."""
    from_scratch(architecture).save(directory)
    tiny_tokenizer().save_pretrained(directory)
    change_config(directory, **changes)
    return directory


def change_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = directory / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def refused(directory: Path, message: str) -> None:
    """By what ``dlm validate`` does, and where the model is opened."""
    with pytest.raises(UserError, match=message):
        check_model_directory(directory)
    with pytest.raises(UserError, match=message):
        open_model(directory)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_whole_directory_is_taken(architecture: str, tmp_path: Path) -> None:
    check_model_directory(written(tmp_path, architecture))
    open_model(tmp_path)


@pytest.mark.parametrize("model_type", CAUSAL)
def test_a_whole_causal_directory_is_taken(model_type: str, tmp_path: Path) -> None:
    write_directory(tmp_path, model_type)
    check_model_directory(tmp_path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_directory_without_tokenizer_files(architecture: str, tmp_path: Path) -> None:
    written(tmp_path, architecture)
    for name in TOKENIZER_FILES:
        (tmp_path / name).unlink(missing_ok=True)
    refused(tmp_path, "the tokenizer .* cannot be loaded")


@pytest.mark.parametrize("class_name", ["XLMRobertaTokenizer", "RobertaTokenizer", "BertTokenizer"])
def test_a_class_name_is_no_vocabulary(class_name: str, tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": class_name}))
    refused(tmp_path, "it has no vocabulary file, so every token would be unknown. Put the")


def test_a_sentencepiece_file_alone_is_to_be_converted(tmp_path: Path) -> None:
    written(tmp_path, "xlm-roberta")
    for name in TOKENIZER_FILES:
        (tmp_path / name).unlink(missing_ok=True)
    settings = {"tokenizer_class": "XLMRobertaTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    refused(tmp_path, "SentencePiece file alone .*pip install sentencepiece protobuf, then in")


def test_a_tokenizer_larger_than_the_embeddings(tmp_path: Path) -> None:
    written(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rows = len(tokenizer)
    tokenizer.add_tokens(["Zukunft", "Vergangenheit"])
    tokenizer.save_pretrained(tmp_path)
    refused(tmp_path, rf"up to {rows + 1}, .* have {rows} rows, so 2 .*'Zukunft' \({rows}\)")


def test_a_causal_models_own_mask_token_may_lack_its_row(tmp_path: Path) -> None:
    write_directory(tmp_path, "llama")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"mask_token": "<m>", "pad_token": "<p>"})
    tokenizer.save_pretrained(tmp_path)
    check_model_directory(tmp_path)
    tokenizer.add_tokens(["Zukunft"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="so 1 tokens have none: 'Zukunft'"):
        check_model_directory(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_git_lfs_pointer_is_named(name: str, tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / name).write_text(POINTER)
    refused(tmp_path, f"{name} is a git-lfs pointer .* 17,671,552 bytes .*run `git lfs pull`")


@pytest.mark.parametrize("kept", [0, 4, 30, 2000])
def test_damaged_weights_are_named(kept: int, tmp_path: Path) -> None:
    path = written(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(tmp_path, r"model.safetensors .*damaged.*Download it again")


def test_weights_with_something_behind_them_are_damaged(tmp_path: Path) -> None:
    path = written(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"more")
    refused(tmp_path, "where its header says")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_damaged_json_is_named(name: str, tmp_path: Path) -> None:
    path = written(tmp_path) / name
    path.write_text(path.read_text()[:40])
    refused(tmp_path, f"{name} is damaged: it is no JSON")


def test_a_part_of_the_weights_that_is_absent_is_named(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / "model.safetensors"
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": dict(zip(load_file(path), parts * 99, strict=False))}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    path.rename(tmp_path / parts[0])
    refused(tmp_path, rf"1 of 2 parts .*{parts[1]}\): download them too")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_wrong_shapes_are_named(architecture: str, tmp_path: Path) -> None:
    written(tmp_path, architecture, vocab_size=99)
    rows = len(tiny_tokenizer())
    refused(tmp_path, rf"is \[{rows}(, 16)?\] and should be \[99")


def test_headers_say_what_the_weights_are(tmp_path: Path) -> None:
    weights = load_file(written(tmp_path) / "model.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    assert weight_shapes(tmp_path) == shapes


def test_validate_names_the_stage_and_the_key(tmp_path: Path) -> None:
    written(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "tgt": "b"}\n')
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"data: {{root: {tmp_path}, train: [{{path: rows.jsonl}}]}}\n"
        f"stages: {{adapt: {{kind: adapt, model: {{pretrained: {tmp_path / 'model'}}}}}}}\n"
    )
    (line,) = unknown_names(load_recipe(recipe))
    assert line.startswith("stages.adapt.model.pretrained: the tokenizer")


@pytest.mark.parametrize(
    ("setting", "said"),
    [("data.max_length=4000", "data.max_length: 4000 is more than the 40 positions of"),
     ("stages.adapt.model.pretrained=ADAPTER", "is an adapter")],
)  # fmt: skip
def test_validate_says_more_of_a_directory(setting: str, said: str, tmp_path: Path) -> None:
    written(tmp_path / "model")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "tgt": "b"}\n')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"data: {{root: {tmp_path}, train: [{{path: rows.jsonl}}]}}\n"
        f"stages: {{adapt: {{kind: adapt, model: {{pretrained: {tmp_path / 'model'}}}}}}}\n"
    )
    overrides = [setting.replace("ADAPTER", str(tmp_path / "adapter"))]
    lines = unknown_names(load_recipe(recipe, overrides))
    assert any(said in line for line in lines), lines


def test_relative_positions_are_refused(tmp_path: Path) -> None:
    written(tmp_path, position_embedding_type="relative_key")
    refused(tmp_path, "position_embedding_type 'relative_key'.*absolute positions alone")


def test_weights_of_the_body_without_a_place_are_named(tmp_path: Path) -> None:
    key = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    change_weights(written(tmp_path), lambda w: w.update({key: torch.zeros(79, 8)}))
    with pytest.raises(UserError, match=f"has no place for: {key}. Without them"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("prefix", ["bert.", ""])
@pytest.mark.parametrize("layers", [1, 3])
def test_other_layers_than_config_says_are_refused(
    prefix: str, layers: int, tmp_path: Path
) -> None:
    written(tmp_path, num_hidden_layers=layers)
    renamed(tmp_path, "bert.", prefix)
    said = rf"have 2 layers \(encoder.layer\), and its config.json says {layers}"
    refused(tmp_path, said)
    with pytest.raises(UserError, match=said):
        load_backbone(tmp_path, fresh_head=FreshHead(0, print))


def test_left_over_weights_of_a_body_without_its_head_are_of_the_body() -> None:
    network = from_scratch("bert").network
    key = "encoder.layer.7.output.dense.weight"
    with pytest.raises(UserError, match=f"has no place for: {key}"):
        check_loaded("a", network, mismatched=(), unexpected=[key, "classifier.weight"])
    check_loaded("a", network, mismatched=(), unexpected=["classifier.weight", "pooler.dense.bias"])


def renamed(directory: Path, old: str, new: str) -> None:
    """Other beginnings of the weights' names."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        kept = {new + name.removeprefix(old): tensor for name, tensor in weights.items()}
        weights.clear()
        weights.update(kept)

    change_weights(directory, change)


def test_weights_under_other_names_are_refused(tmp_path: Path) -> None:
    renamed(written(tmp_path), "", "module.")
    refused(tmp_path, r"none has a name of that, such as bert\..*; the file has module\.")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"hidden_act": "gelo"}, "KeyError: 'gelo'"),
        ({"pad_token_id": 9999}, "AssertionError: Padding_idx"),
        ({"num_attention_heads": 5}, "ValueError: The hidden size"),
        ({"hidden_dropout_prob": 1.5}, "ValueError: dropout probability"),
        ({"num_hidden_layers": "2"}, "'num_hidden_layers' expected int, got str"),
    ],
)
def test_settings_that_describe_no_network_are_refused(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    refused(written(tmp_path, **settings), reason)


def test_a_quantized_checkpoint_is_named_as_such(tmp_path: Path) -> None:
    written(tmp_path, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    refused(tmp_path, "is quantized .*take the checkpoint that it was made from")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "it has no weights: model.safetensors is missing"),
        ("adapter_config.json", "it is an adapter .*merge_and_unload"),
        ("tf_model.h5", "its weights are TensorFlow's"),
        ("flax_model.msgpack", "its weights are Flax's"),
        ("model.fp16.safetensors", r"a variant's name \(model.fp16.safetensors\): rename"),
    ],
)
def test_what_lies_in_place_of_the_weights_is_named(
    name: str | None, said: str, tmp_path: Path
) -> None:
    path = written(tmp_path) / "model.safetensors"
    if name is None:
        path.unlink()
    elif name.endswith(".safetensors"):
        path.rename(tmp_path / name)
    else:
        path.unlink()
        (tmp_path / name).write_text("{}")
    refused(tmp_path, said)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["bert.encoder.layer.1.output.dense.bias"][0] = float("nan")

    change_weights(written(tmp_path), spoil)
    with pytest.raises(UserError, match=r"no finite numbers \(bert.encoder.layer.1.output"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(("token", "name"), [("unk", "unknown"), ("pad", "padding")])
def test_a_mask_token_that_is_another_one_too_is_refused(token: str, name: str) -> None:
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.mask_token = getattr(tokenizer, f"{token}_token")
    with pytest.raises(UserError, match=f"has one token, .*, for mask and {name}"):
        SpecialTokens.of(tokenizer)


def test_what_language_models_do_without_may_be_there(tmp_path: Path) -> None:
    others = {
        "bert.pooler.dense.weight": torch.zeros(16, 16), "bert.pooler.dense.bias": torch.zeros(16),
        "cls.seq_relationship.weight": torch.zeros(2, 16),
        "bert.embeddings.position_ids": torch.arange(40)[None],
    }  # fmt: skip
    change_weights(written(tmp_path), lambda w: w.update(others))
    load_backbone(tmp_path)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("setting", ["is_decoder", "add_cross_attention"])
def test_an_encoder_used_as_a_decoder_is_refused(
    architecture: str, setting: str, tmp_path: Path
) -> None:
    written(tmp_path, architecture, **{setting: True})
    refused(tmp_path, rf"has {setting}: true .*set {setting} to false there")


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_positions_counted_by_another_pad_token_are_refused(
    architecture: str, tmp_path: Path
) -> None:
    assert tiny_tokenizer().pad_token_id == 1
    written(tmp_path, architecture, pad_token_id=7)
    token = tiny_tokenizer().convert_ids_to_tokens(7)
    refused(tmp_path, f"has pad_token_id 7 .*which is {token!r} .*must be trained anew with")


def test_rows_are_no_longer_than_a_causal_models_window() -> None:
    config = AutoConfig.for_model("mistral", max_position_embeddings=64, sliding_window=16)
    assert positions(config) == 16
    config = AutoConfig.for_model("mistral", max_position_embeddings=64, sliding_window=None)
    assert positions(config) == 64
    for uses, longest in ((True, 16), (False, 64)):
        config = AutoConfig.for_model(
            "qwen2", max_position_embeddings=64, sliding_window=16, use_sliding_window=uses,
            max_window_layers=1, num_hidden_layers=2,
        )  # fmt: skip
        assert positions(config) == longest


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "modernbert"])
def test_every_parameter_that_is_trained_has_a_gradient(architecture: str, tmp_path: Path) -> None:
    """DDP waits for those that have none: an untied head of BERT has a bias that is not read."""
    written(tmp_path, architecture, tie_word_embeddings=False)
    place = {"bert": "cls.predictions.decoder", "modernbert": "decoder"}
    key = place.get(architecture, "lm_head.decoder")
    rows = len(tiny_tokenizer())
    own = {f"{key}.weight": torch.randn(rows, 16), f"{key}.bias": torch.zeros(rows)}
    change_weights(tmp_path, lambda w: w.update(own))
    backbone = load_backbone(tmp_path)
    tokens, valid = padded(random_rows([9, 7]))
    backbone.logits(backbone.hidden(tokens, valid)).square().sum().backward()
    without = [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    unread = ("position_embeddings", "token_type", "pooler")
    assert [name for name in without if not any(part in name for part in unread)] == []
    backbone.save(tmp_path / "again")
    load_backbone(tmp_path / "again")


def test_a_network_with_code_of_its_own_is_named_by_it(tmp_path: Path) -> None:
    """As DNABERT-2 and jina-bert: no position embeddings, which its code does without."""
    own = {"AutoModelForMaskedLM": "bert_layers.BertForMaskedLM"}
    written(tmp_path, auto_map=own)
    load_backbone(tmp_path)  # all weights are there: it is transformers' own network
    key = "bert.embeddings.position_embeddings.weight"
    change_weights(tmp_path, lambda weights: weights.pop(key))
    with pytest.raises(UserError, match=f"no weights for {key}: it comes with code of its") as said:
        load_backbone(tmp_path)
    assert "(auto_map: bert_layers.BertForMaskedLM), which was not run" in str(said.value)


def test_validate_says_that_a_type_of_model_is_not_supported(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "fnet"}))
    (tmp_path / "t.txt").write_text("MKT\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"data: {{task: text, root: {tmp_path}, train: [{{path: t.txt}}]}}\n"
        f"stages: {{pretrain: {{kind: pretrain, model: {{pretrained: {tmp_path / 'model'}}}}}}}\n"
    )
    (line,) = unknown_names(load_recipe(recipe))
    assert line.startswith("stages.pretrain.model.pretrained: ")
    assert "models of type 'fnet' are not supported: it mixes tokens by a Fourier" in line


OWN_TOKENIZER = """
from transformers import PreTrainedTokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACDEFGHIKLMNPQRSTVWY"]


class Residues(PreTrainedTokenizer):
    def __init__(self, **options):
        super().__init__(**options)

    @property
    def vocab_size(self):
        return len(TOKENS)

    def get_vocab(self):
        return {token: number for number, token in enumerate(TOKENS)}

    def _tokenize(self, text, **_):
        return list(text)

    def _convert_token_to_id(self, token):
        return TOKENS.index(token) if token in TOKENS else 1

    def _convert_id_to_token(self, index):
        return TOKENS[index]
"""


def test_leave_for_code_is_given_to_the_tokenizer_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "own"))
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "tokenization_residues.py").write_text(OWN_TOKENIZER)
    names = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
    own = {
        "tokenizer_class": "Residues", "auto_map": {
            "AutoTokenizer": ["tokenization_residues.Residues", None]
        }, **names,
    }  # fmt: skip
    (directory / "tokenizer_config.json").write_text(json.dumps(own))
    (directory / "config.json").write_text(json.dumps({"model_type": "bert"}))
    tokenizer = load_tokenizer(directory, trust_remote_code=True)
    assert tokenizer("MKT", add_special_tokens=False)["input_ids"] == [15, 13, 21]
    with pytest.raises(UserError, match=r"set model\.trust_remote_code: true"):
        load_tokenizer(directory)
