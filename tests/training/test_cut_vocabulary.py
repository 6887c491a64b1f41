"""Stages that keep only the tokens of their rows, and models that get the others back."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from family_tools import export_of, run_family, write_family
from resume_tools import StopAt, environment, with_callbacks
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from dlm.cli import main
from dlm.config.schema import (
    DataConfig,
    ModelConfig,
    SourceConfig,
    StageConfig,
    VocabularyConfig,
)
from dlm.errors import StageFailed, UserError
from dlm.evaluation.scored import unknown_figures
from dlm.export import full_vocabulary
from dlm.export.full_vocabulary import write_full_vocabulary
from dlm.generation.generate import generate
from dlm.generation.model import open_model
from dlm.generation.settings import GenerationSettings
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone
from dlm.models.cut_tokenizer import tokens_of
from dlm.models.vocabulary import CutVocabulary
from dlm.training.job import StageJob
from dlm.training.start import StartingPoint, starting_point, starting_tokenizer
from dlm.training.vocabulary import FILE

USED = (
    "stages.adapt.model.vocabulary.keep=used",
    "data.train=[{generator: number_pairs, count: 20}]",
)
Output = pytest.CaptureFixture[str]


def job_of(model: Path, directory: Path, *rows: str, **vocabulary: object) -> StageJob:
    """A stage that adapts a model to the pairs of a file, of which the first is validated."""
    directory.mkdir(exist_ok=True)
    pairs = directory / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"src": r, "tgt": r}) + "\n" for r in rows))
    source = SourceConfig(path=str(pairs))
    data = DataConfig(train=[source], validation=[replace(source, limit=1)])
    settings = VocabularyConfig(keep="used", **vocabulary)  # type: ignore[arg-type]
    config = StageConfig(
        kind="adapt", data=data, model=ModelConfig(pretrained=str(model), vocabulary=settings)
    )
    return StageJob("recipe", "adapt", config, 0, "fingerprint", directory, {})


def written(start: StartingPoint, directory: Path) -> Path:
    """An export of what a stage begins with, as if it had trained nothing."""
    start.backbone.save(directory)
    start.tokenizer.save_pretrained(directory)
    assert start.cut is not None
    start.cut.write(directory)
    return directory


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("cut") / "model", "xlm-roberta")


@pytest.fixture(scope="module")
def trained(model: Path) -> Path:
    """A run of adapt, length and scores whose first stage cut the vocabulary."""
    run_dir = model.parent / "trained"
    assert run_family(model, run_dir, *USED) == 0
    return run_dir


@pytest.fixture(scope="module")
def full(trained: Path) -> Path:
    """That run's model with the whole vocabulary."""
    target = trained.parent / "full"
    assert main(["export", str(trained), "--to", str(target), "--full-vocabulary"]) == 0
    return target


@pytest.mark.parametrize(
    "family", ["xlm-roberta", "bert", "modernbert", "eurobert", "llama", "gpt2"]
)
def test_cut_untrained_and_made_whole_again_it_is_the_same_model(
    family: str, tmp_path: Path
) -> None:
    model = write_family(tmp_path / "model", family)
    job = job_of(model, tmp_path / "stage", "two hundred", "seven")
    start = starting_point(job)
    whole = starting_point(replace(job, config=replace(job.config, model=ModelConfig(str(model)))))
    assert start.backbone.vocab_size == len(start.tokenizer) < len(whole.tokenizer)
    write_full_vocabulary(written(start, tmp_path / "export"), tmp_path / "full")
    again = open_model(tmp_path / "full")
    assert tokens_of(again.tokenizer) == tokens_of(whole.tokenizer)
    for name, tensor in whole.backbone.state_dict().items():
        assert torch.equal(again.backbone.state_dict()[name], tensor), name
    old, new = (b.network.config.to_dict() for b in (whole.backbone, again.backbone))
    assert {k for k in old if k.endswith("token_id") and old[k] != new[k]} == set()


def test_rows_and_stages_that_follow_have_the_cut_vocabulary(trained: Path, model: Path) -> None:
    export, length = export_of(trained, "adapt"), export_of(trained, "length")
    record = CutVocabulary.read(export)
    assert record is not None and record == CutVocabulary.read(length)
    assert record.source == str(model)
    plain, loading = AutoModelForMaskedLM.from_pretrained(export, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(export)
    assert not any(loading.values())
    assert len(tokenizer) == plain.config.vocab_size == len(record.kept) < 150
    manifest = json.loads((export.parent / "manifest.json").read_text())
    assert manifest["metrics"]["vocabulary"] == len(tokenizer)
    assert json.loads((export.parent / FILE).read_text())["kept"] == list(record.kept)


def test_kept_rows_are_the_trained_ones_and_the_others_the_first_ones(
    trained: Path, full: Path, model: Path
) -> None:
    export = export_of(trained, "length")
    before, cut, after = (load_file(place / "model.safetensors") for place in (model, export, full))
    kept = list(CutVocabulary.read(export).kept)  # type: ignore[union-attr]
    others = [id_ for id_ in range(150) if id_ not in kept]
    assert after.keys() == before.keys() and others
    for name, tensor in after.items():
        if tensor.shape[0] == 150:
            assert torch.equal(tensor[kept], cut[name]) and torch.equal(
                tensor[others], before[name][others]
            )
            assert not torch.equal(tensor[kept], before[name][kept])
        else:
            assert torch.equal(tensor, cut[name])


def test_made_whole_it_has_the_length_predictor_and_reads_prompts_as_before(
    trained: Path, full: Path
) -> None:
    assert not (full / "cut_vocabulary.json").exists() and (full / "dlm.json").exists()
    with torch.no_grad():
        lengths = []
        for place in (export_of(trained, "length"), full):
            opened = open_model(place)
            assert opened.length_predictor is not None
            ids = torch.tensor([opened.tokenizer("two hundred")["input_ids"]])
            valid = torch.ones_like(ids, dtype=torch.bool)
            lengths.append(opened.length_predictor(opened.backbone.hidden(ids, valid), valid))
            generate(opened, ["two"], GenerationSettings(num_iterations=2, length_beam=2))
    assert torch.equal(*lengths)


def test_a_resumed_stage_keeps_the_tokens_that_it_began_with(
    trained: Path, model: Path, tmp_path: Path, capsys: Output
) -> None:
    with with_callbacks(StopAt(3)):
        assert run_family(model, tmp_path / "cut", *USED, stop="adapt") == 3
    said = capsys.readouterr().out
    assert "adapt: the vocabulary of 150 tokens is cut to " in said and " 5 special, " in said
    assert run_family(model, tmp_path / "cut", *USED, stop="adapt") == 0
    assert "adapt: the vocabulary is cut to " in capsys.readouterr().out
    cut, uncut = (
        export_of(run, "adapt") / "model.safetensors" for run in (tmp_path / "cut", trained)
    )
    assert cut.read_bytes() == uncut.read_bytes()


def test_tokens_of_another_stage_are_not_taken_up(model: Path, tmp_path: Path) -> None:
    job = job_of(model, tmp_path, "seven")
    (tmp_path / FILE).write_text('{"fingerprint": "another", "kept": [0]}')
    first, _ = starting_tokenizer(job)
    assert len(first) > 5
    (tmp_path / FILE).write_text("damaged")
    assert tokens_of(starting_tokenizer(job)[0]) == tokens_of(first)


def test_data_is_prepared_for_the_same_tokenizer(model: Path, tmp_path: Path) -> None:
    job = job_of(model, tmp_path, "seven")
    tokenizer, _ = starting_tokenizer(job)
    assert tokens_of(tokenizer) == tokens_of(starting_point(job).tokenizer)


def test_tokens_of_more_files_are_kept(model: Path, tmp_path: Path) -> None:
    (tmp_path / "later.txt").write_text("hundred\n")
    (tmp_path / "later.jsonl").write_text('{"turns": [{"text": "twenty"}], "id": 3}\n')
    extra = [str(tmp_path / "later.txt"), str(tmp_path / "later.jsonl")]
    options = {"characters": False}
    few, _ = starting_tokenizer(job_of(model, tmp_path / "few", "seven", **options))
    more, _ = starting_tokenizer(job_of(model, tmp_path / "more", "seven", **options, extra=extra))
    assert few.unk_token_id in few("hundred twenty")["input_ids"]
    assert more.unk_token_id not in more("hundred twenty")["input_ids"]


def test_rows_that_are_dropped_or_cut_count_too(model: Path, tmp_path: Path) -> None:
    job = job_of(model, tmp_path, "seven", "hundred " * 30, characters=False)
    short = replace(job.config.data, max_length=20, too_long="drop")
    job = replace(job, config=replace(job.config, data=short))
    tokenizer, _ = starting_tokenizer(job)
    pieces = AutoTokenizer.from_pretrained(model).tokenize("hundred hundred")
    assert set(pieces) <= set(tokens_of(tokenizer))


def test_a_row_that_would_be_split_otherwise_is_named(model: Path, tmp_path: Path) -> None:
    # 'abX' is unknown as a whole: behind its longest prefix nothing fits. Without that prefix it
    # would be a ##bX.
    tokens = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "a", "ab", "c", "##bX"]
    backend = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    place = shutil.copytree(model, tmp_path / "model")
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        pad_token="[PAD]", mask_token="[MASK]",
    ).save_pretrained(place)  # fmt: skip
    job = job_of(place, tmp_path / "stage", "a cbX", "c abX")
    with pytest.raises(UserError) as caught:
        starting_tokenizer(job)
    assert (
        "splits row 2 otherwise: '[CLS] c a ##bX [SEP] c a ##bX [SEP]' in place of "
        "'[CLS] c [UNK] [SEP] c [UNK] [SEP]'. Set it to full, or remove the row"
    ) in str(caught.value)
    assert not (tmp_path / "stage" / FILE).exists()


def test_a_vocabulary_that_was_cut_twice_is_made_whole(model: Path, tmp_path: Path) -> None:
    one = written(
        starting_point(job_of(model, tmp_path / "1", "two hundred seven")), tmp_path / "one"
    )
    start = starting_point(job_of(one, tmp_path / "2", "seven", characters=False))
    two = written(start, tmp_path / "two")
    assert len(AutoTokenizer.from_pretrained(two)) < len(AutoTokenizer.from_pretrained(one))
    write_full_vocabulary(two, tmp_path / "full")
    before, after = (load_file(p / "model.safetensors") for p in (model, tmp_path / "full"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_model_that_was_cut_may_have_moved(model: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(model, tmp_path / "model")
    export = written(starting_point(job_of(moved, tmp_path / "stage", "two")), tmp_path / "export")
    moved = moved.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"was cut from the model in .*Give --source the directory"):
        write_full_vocabulary(export, tmp_path / "full")
    write_full_vocabulary(export, tmp_path / "full", source=str(moved))
    other = write_family(tmp_path / "other", "bert")
    with pytest.raises(UserError, match="is not the model whose vocabulary was cut"):
        write_full_vocabulary(export, tmp_path / "again", source=str(other))
    assert not (tmp_path / "again").exists()


def test_a_whole_model_that_does_not_read_back_is_no_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = written(starting_point(job_of(model, tmp_path / "stage", "two")), tmp_path / "export")

    def damaged(place: str | Path, **options: str | None) -> Backbone:
        backbone = load_backbone(place, **options)  # type: ignore[arg-type]
        if ".partial" in str(place):
            backbone.network.get_output_embeddings().bias.data[0] += 1
        return backbone

    monkeypatch.setattr(full_vocabulary, "load_backbone", damaged)
    with pytest.raises(StageFailed, match=r"does not read back: network.lm_head.bias differs"):
        write_full_vocabulary(export, tmp_path / "full")
    assert not (tmp_path / "full").exists()


def test_export_refuses_what_it_would_ignore(model: Path, tmp_path: Path, capsys: Output) -> None:
    to = ("--to", str(tmp_path / "target"))
    assert main(["export", str(model), *to, "--full-vocabulary"]) == 2
    assert "has its whole vocabulary" in capsys.readouterr().err
    assert main(["export", str(model), *to, "--source", str(model)]) == 2
    assert "--source would be ignored without --full-vocabulary" in capsys.readouterr().err


def test_unknown_tokens_of_prompts_are_counted_and_said(
    trained: Path, tmp_path: Path, capsys: Output
) -> None:
    capsys.readouterr()
    assert main(["generate", str(trained), "--prompt", "two ☃"]) == 0
    said = "1 of 4 tokens of what is given are unknown to the model, which reads them as <unk>"
    assert said in capsys.readouterr().err
    infill = ["--infill", "☃ [MASK:1]"]
    assert main(["generate", str(trained), *infill]) == 0
    assert "1 of 3 tokens of what is given" in capsys.readouterr().err
    model = open_model(export_of(trained, "length"))
    assert unknown_figures(model, ["two ☃", "two"]) == {"unknown_tokens": 1, "tokens": 6}
    assert unknown_figures(model, ["two"]) == {}
    assert main(["generate", str(trained), "--prompt", "two"]) == 0
    assert "unknown" not in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_cut_and_train_what_one_does(model: Path, tmp_path: Path) -> None:
    same = (*USED, "model.dropout=0", "stages.scores=null", "stages.length=null")
    assert run_family(model, tmp_path / "one", *same) == 0
    two = ("hardware.devices=2", "hardware.strategy=zero3")
    command = [sys.executable, "-m", "dlm.cli", "run", str(tmp_path / "one.yaml"), *same, *two,
               "--run-dir", str(tmp_path / "two")]  # fmt: skip
    cache = {"DLM_CACHE": str(tmp_path / "cache")}
    ended = subprocess.run(
        command, env=environment() | cache, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("the vocabulary of 150 tokens is cut to") == 1
    one, both = (
        load_file(export_of(tmp_path / run, "adapt") / "model.safetensors")
        for run in ("one", "two")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(both[name], tensor, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_adapters_train_on_a_cut_vocabulary(model: Path, tmp_path: Path) -> None:
    lora = ("lora.rank=2", "stages.scores=null", "stages.length=null")
    assert run_family(model, tmp_path / "run", *USED, *lora) == 0
    write_full_vocabulary(export_of(tmp_path / "run", "adapt"), tmp_path / "full")
    before, after = (load_file(p / "model.safetensors") for p in (model, tmp_path / "full"))
    name = "roberta.embeddings.word_embeddings.weight"
    assert torch.equal(before[name], after[name])
    assert any(not torch.equal(before[other], after[other]) for other in before)
