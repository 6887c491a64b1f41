"""dlm export: the directory, its card, its script; and what it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_tools import Caller, TrainedRun, environment, files_of
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from dlm.config.loading import load_recipe
from dlm.config.schema import SourceConfig
from dlm.export.card import Exported, model_card
from dlm.export.history import History, read_history
from dlm.export.origin import rows_of
from dlm.generation.model import Description
from dlm.models.positions import ResponsePositions
from dlm.models.sums import write_sums
from dlm.recipe.fingerprint import plain, semantic_config
from dlm.recipe.manifest import read_manifest

PROMPTS = ["seven", "two hundred and seven"]
ALONE = """
import runpy, sys
sys.modules["dlm"] = None  # an import of it fails
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def exported(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dlm.cli import main

    target = tmp_path_factory.mktemp("export") / "not there yet" / "model"
    assert main(["export", str(trained.directory), "--to", str(target)]) == 0
    return target


def copied(trained: TrainedRun, tmp_path: Path) -> Path:
    return shutil.copytree(trained.directory, tmp_path / "run")


def card_of(run: Path, call: Caller, tmp_path: Path) -> str:
    outcome = call("export", run, "--to", tmp_path / "model")
    assert outcome.code == 0, outcome.err
    return (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def front_matter(card: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return values


def test_transformers_loads_it_without_code_from_elsewhere(
    exported: Path, trained: TrainedRun
) -> None:
    network, loading = AutoModelForMaskedLM.from_pretrained(exported, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    written = load_file(trained.stage("adapt") / "export" / "model.safetensors")
    assert all(network.state_dict()[name].equal(tensor) for name, tensor in written.items())
    assert "auto_map" not in json.loads((exported / "config.json").read_text())


@pytest.mark.slow
def test_files_have_the_mode_that_the_umask_gives(
    exported: Path, trained: TrainedRun, tmp_path: Path
) -> None:
    usual = tmp_path / "file"
    usual.touch()
    for place in (exported, trained.stage("adapt") / "export", trained.stage("length") / "export"):
        modes = {path.name: path.stat().st_mode for path in place.rglob("*") if path.is_file()}
        assert "model.safetensors" in modes and set(modes.values()) == {usual.stat().st_mode}


def test_the_script_alone_answers_as_dlm_generate_does(exported: Path, call: Caller) -> None:
    words = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    expected = call("generate", exported, *words).out
    script = str(exported / "diffusion_generate.py")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, script, *PROMPTS], capture_output=True, text=True,
        env=environment(), cwd=exported.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected and expected.strip()


def test_an_export_generates_with_the_settings_of_its_run(
    exported: Path, trained: TrainedRun, call: Caller
) -> None:
    said = json.loads((exported / "dlm.json").read_text())["generation"]
    assert (said["num_iterations"], said["length_beam"]) == (3, 2)
    words = ("--tasks", "numbers_en_de", "--limit", "2", "--output")
    assert call("evaluate", exported, *words, exported.parent / "scores").code == 0
    metrics = json.loads(
        (exported.parent / "scores" / "numbers_en_de" / "metrics.json").read_text()
    )
    assert metrics["generation"]["num_iterations"] == 3
    assert metrics["generation"]["length_beam"] == 2


def test_settings_of_a_later_version_are_refused(
    exported: Path, tmp_path: Path, call: Caller
) -> None:
    model = shutil.copytree(exported, tmp_path / "model")
    said = json.loads((model / "dlm.json").read_text())
    said["generation"]["tomorrow"] = 1
    (model / "dlm.json").write_text(json.dumps(said))
    write_sums(model)
    outcome = call("generate", model, "--prompt", "seven")
    assert outcome.code == 2
    assert "generation settings that are not known here (tomorrow): use the version" in outcome.err


def test_the_card_tells_every_stage_its_data_and_its_scores(
    exported: Path, trained: TrainedRun
) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert front_matter(card) == {
        "library_name": "transformers", "pipeline_tag": "fill-mask",
        "tags": ["dlm", "diffusion-language-model", "masked-diffusion"],
    }  # fmt: skip
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    for name in ("tokenizer", "pretrain", "adapt", "length"):
        manifest = read_manifest(trained.stage(name))
        assert manifest is not None
        start = {"adapt": "pretrain", "length": "adapt", "pretrain": "random"}.get(name, "")
        made = next(row for row in rows if row.startswith(f"| {name} | {name} | {start} | "))
        assert (" | 20 " in made) == (name != "tokenizer") and " | 0 | " in made
        assert (manifest.provenance["git_commit"] or "an installed package")[:12] in made
    assert "| adapt | generated: number_pairs, split train, seed 0 | 200 | none needed" in card
    assert "python 3." in card and "torch 2." in card
    place = trained.stage("evaluate") / "export" / "oracle" / "numbers_en_de" / "metrics.json"
    metrics = json.loads(place.read_text())
    for name, value in metrics["scores"].items():
        signature = value["signature"].replace("|", "\\|")
        assert (
            "| numbers_en_de (version 1) | oracle | 20 | "
            f"{name} {value['score']:.1f} [{value['ci95_low']:.1f}, {value['ci95_high']:.1f}] | "
            f"{metrics['generation']['sampler']}, 3 iterations, oracle length | `{signature}` |"
        ) in card
    assert "1 to 32." in card and "at most 64 tokens" in card


def test_nothing_of_the_machine_is_told(exported: Path, trained: TrainedRun) -> None:
    manifest = read_manifest(trained.stage("length"))
    assert manifest is not None
    training = json.loads((exported / "training.json").read_text())
    assert [stage["stage"] for stage in training["stages"]] == [
        "tokenizer", "pretrain", "adapt", "length",
    ]  # fmt: skip
    assert training["stages"][3]["fingerprint"] == manifest.identity.fingerprint
    for name in ("README.md", "training.json", "dlm.json"):
        text = (exported / name).read_text()
        assert str(trained.directory.parent) not in text
        assert manifest.provenance["command"] not in text


def test_licences_and_languages_come_from_the_recipe_and_change_no_fingerprint(
    trained: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "license: apache-2.0\nlanguages: [en, de]\n"
        + trained.recipe.read_text().replace(
            "train: [{generator: number_pairs, count: 200}]",
            "train: [{generator: number_pairs, count: 200, license: CC0-1.0, name: pairs}]",
        )
    )
    run = copied(trained, tmp_path)
    outcome = call("run", recipe, "--run-dir", run)
    assert outcome.code == 0 and outcome.out.count("skipped, finished") == 5, outcome.out
    card = card_of(run, call, tmp_path)
    assert front_matter(card)["license"] == "apache-2.0"
    assert front_matter(card)["language"] == ["en", "de"]
    assert "| adapt | generated: number_pairs, split train, seed 0 | 200 | CC0-1.0 |" in card
    assert "The licence of the weights is not stated" not in card


def test_a_source_tells_its_origin_and_licence(trained: TrainedRun) -> None:
    manifest = read_manifest(trained.stage("adapt"))
    stage = load_recipe(trained.recipe).stages["adapt"]
    assert manifest is not None

    def row(identity: dict[str, Any], read: SourceConfig, today: SourceConfig) -> tuple[str, str]:
        config = {"data": {"train": [plain(read)]}}
        past = _with(manifest, identity=_with(
            manifest.identity, config=config, data={"rows": [[identity], []], "local files": {}}
        ))  # fmt: skip
        found = rows_of(past, _with(stage, data=_with(stage.data, train=[today])), {})[0]
        return found.markdown, found.licence

    local = {"sha256": "a" * 64, "format": "jsonl"}
    listed = SourceConfig(hub="openai/gsm8k", path="gsm8k/train.jsonl")
    text, licence = row(local, listed, listed)
    assert text == f"gsm8k/train.jsonl (sha256 {'a' * 12})"
    assert licence == "MIT (as its owners say)"
    hub = {"hub": "openai/gsm8k", "config": "main", "revision": None, "split": "train"}
    text, _ = row(hub, listed, listed)
    assert text == (
        "[openai/gsm8k](https://huggingface.co/datasets/openai/gsm8k), main, split train, "
        "revision not pinned"
    )
    private = SourceConfig(path="/home/somebody/secret/rows.jsonl")
    many = {"files": [local] * 5}
    text, licence = row(many, private, private)
    assert text.startswith("secret/rows.jsonl (sha256 ") and text.endswith("and 2 more files)")
    assert licence == "not stated"
    other = SourceConfig(path="rows.jsonl", limit=5, license="MIT")
    assert row(local, private, other)[1] == "not stated", "it is not the source that was read"


def _with(value: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(value, **changes)


def test_a_hub_model_and_its_licence_unknown(trained: TrainedRun) -> None:
    """What a recipe took from the hub or from a directory, without network."""
    history = read_history(trained.stage("length") / "export")
    first = history.stages[1]

    def started(pretrained: str, data: Any) -> Any:
        config = first.manifest.identity.config
        config = config | {"model": config["model"] | {"pretrained": pretrained}}
        identity = _with(first.manifest.identity, config=config, data=data, needs={})
        return _with(first, manifest=_with(first.manifest, identity=identity))

    hub = started("FacebookAI/xlm-roberta-base", [[], []])
    directory = started(
        "/home/somebody/bert", {"rows": [], "local files": {"model.pretrained": {}}}
    )
    assert (hub.start, hub.hub_model) == ("FacebookAI/xlm-roberta-base",) * 2
    assert (directory.start, directory.hub_model) == ("bert", None)
    shown = Exported("m", "XLMRobertaForMaskedLM", 5, 64, Description(), "", None, True)
    card = model_card(shown, _with(history, stages=[hub, *history.stages[2:]]))
    assert front_matter(card)["base_model"] == ["FacebookAI/xlm-roberta-base"]
    assert "/home/somebody" not in model_card(shown, _with(history, stages=[directory]))


def test_a_model_that_was_not_evaluated_says_so(
    trained: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    card = card_of(trained.stage("adapt"), call, tmp_path)
    assert "## Scores\n\nNot evaluated in its run." in card
    assert "How good it is was not measured." in card
    assert 'diffusion_generate.py "a prompt" --length 12' in card
    assert "dlm generate DIR" not in card, "it has no length predictor"


def test_scores_of_earlier_weights_are_left_out(
    trained: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    run = copied(trained, tmp_path)
    path = next(run.glob("*_length")) / "manifest.json"
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0', 1))
    path = next(run.glob("*_pretrain")) / "manifest.json"
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0', 1))
    card = card_of(run, call, tmp_path)
    assert "Not evaluated in its run." in card
    assert "the scores of stage evaluate are left out: length was made anew after them" in card
    assert "stage pretrain was made anew after adapt had started from it" in card


def test_a_file_that_has_changed_since_is_not_exported(
    trained: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    run = copied(trained, tmp_path)
    (next(run.glob("*_length")) / "export" / "dlm.json").write_text("{}")
    outcome = call("export", run, "--to", tmp_path / "model")
    assert outcome.code == 2
    assert "dlm.json has 2 bytes in place of" in outcome.err and "--force length" in outcome.err
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_an_unfinished_run_is_not_exported(
    trained: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    run = copied(trained, tmp_path)
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("serve: null", "serve: length"))
    (next(run.glob("*_length")) / "manifest.json").unlink()
    outcome = call("export", run, "--to", tmp_path / "model")
    assert outcome.code == 2
    assert "stage length is not finished yet" in outcome.err
    assert not (tmp_path / "model").exists()


def test_an_export_is_copied_with_its_card_as_it_is(
    exported: Path, tmp_path: Path, call: Caller
) -> None:
    assert call("export", exported, "--to", tmp_path / "again").code == 0
    contents = {name: text for name, (_, text) in files_of(exported).items()}
    assert {name: text for name, (_, text) in files_of(tmp_path / "again").items()} == contents


def test_a_directory_of_no_run_has_a_card_that_knows_nothing(
    trained: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    plain_model = shutil.copytree(trained.stage("length") / "export", tmp_path / "plain")
    (plain_model / "dlm.json").unlink()
    write_sums(plain_model)
    card = card_of(plain_model, call, tmp_path)
    assert "Not known: it was not exported from a run of dlm." in card
    assert not (tmp_path / "model" / "training.json").exists()


def test_networks_that_predict_the_next_token_have_a_card_of_their_own() -> None:
    shifted = Description(shifted=True, ours=True)
    causal = Exported("m", "GPT2LMHeadModel", 5, 64, shifted, "", None, False)
    card = model_card(causal, History())
    assert "AutoModelForCausalLM.from_pretrained" in card and "diffusion_generate" not in card
    assert front_matter(card)["pipeline_tag"] == "text-generation"
    assert "made bidirectional: `model.generate` would read it as what it no longer is" in card
    twin = Description("autoregressive", "prefix_causal", ours=True)
    card = model_card(Exported("m", "RobertaForMaskedLM", 5, 64, twin, "", None, False), History())
    assert "it writes from left to right" in card and "dlm generate DIR" in card
    assert front_matter(card)["tags"] == ["dlm", "autoregressive"]


def test_a_card_tells_the_room_of_prompts_and_answers() -> None:
    said = Description(response_positions=ResponsePositions(16), ours=True)
    card = model_card(Exported("m", "BertForMaskedLM", 5, 64, said, "", None, False), History())
    assert "at most 16 tokens, an answer at most 48" in card and "together" not in card


def test_a_stage_whose_licence_changes_is_the_same_stage(trained: TrainedRun) -> None:
    stage = load_recipe(trained.recipe).stages["adapt"]
    licensed = [_with(source, license="MIT") for source in stage.data.train]
    changed = _with(stage, data=_with(stage.data, train=licensed))
    assert semantic_config(changed) == semantic_config(stage)
