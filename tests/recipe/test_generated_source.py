"""A source that is an earlier stage: later stages train on what a model wrote."""

import json
from pathlib import Path
from typing import Any

import pytest
from generate_tools import ROWS, read_rows, write_model, write_rows
from small_platform import small_recipe

from dlm.config.loading import load_recipe, resolved_yaml
from dlm.config.schema import SourceConfig
from dlm.data.sources import stream_rows
from dlm.export.card import Exported, model_card
from dlm.export.history import read_history
from dlm.generation.model import Description
from dlm.recipe.kinds import data_identity
from dlm.recipe.manifest import read_manifest
from dlm.recipe.plan import PlannedStage, plan
from dlm.recipe.runner import run_recipe
from dlm.recipe.status import status
from dlm.training.sources import build_source


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "twin")


class Chain:
    """distil writes rows with the twin; adapt trains on them."""

    def __init__(self, folder: Path, twin: Path) -> None:
        self.folder, self.run_dir = folder, folder / "run"
        rows = write_rows(folder / "given.jsonl")
        tiny = {"architecture": "xlm-roberta", "hidden_size": 16, "num_layers": 1, "num_heads": 2,
                "max_positions": 40, "dropout": 0.0}  # fmt: skip
        self.stages: dict[str, Any] = {
            "distil": {
                "kind": "generate", "init_from": str(twin),
                "data": {"train": [{"path": str(rows)}]},
                "generation": {"beam_size": 2, "max_new_tokens": 4},
            },
            "adapt": {
                "kind": "adapt", "tokenizer": str(twin), "model": tiny,
                "data": {"train": [{"stage": "distil"}], "max_length": 40},
                "train": {"steps": 2, "global_batch_size": 8},
            },
        }  # fmt: skip

    @property
    def recipe(self) -> Path:
        path = self.folder / "chain.yaml"
        recipe = {"hardware": {"accelerator": "cpu", "num_threads": 1}, "stages": self.stages}
        path.write_text(json.dumps(recipe), encoding="utf-8")
        return path

    def run(self, *overrides: str, **options: Any) -> int:
        recipe = load_recipe(self.recipe, overrides)
        command = ["dlm", "run", "chain.yaml"]
        return run_recipe(recipe, self.run_dir, command=command, **options)

    def planned(self, *overrides: str) -> dict[str, PlannedStage]:
        recipe = load_recipe(self.recipe, overrides)
        stages = plan(recipe, self.run_dir, data_identity=data_identity)
        return {stage.job.name: stage for stage in stages}

    def keys(self, *overrides: str) -> dict[str, str]:
        return {n: s.identity.fingerprint for n, s in self.planned(*overrides).items()}


@pytest.fixture
def chain(tmp_path: Path, twin: Path) -> Chain:
    return Chain(tmp_path, twin)


def test_a_later_stage_trains_on_what_was_written(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    before = chain.keys()
    assert chain.run() == 0
    assert chain.keys() == before, "that the file is there changes no fingerprint"
    assert [stage.action for stage in chain.planned().values()] == ["skip", "skip"]
    written = read_rows(chain.run_dir / "01_distil" / "export" / "rows.jsonl")
    manifest = read_manifest(chain.run_dir / "02_adapt")
    assert manifest is not None
    assert manifest.metrics["train_rows"] == len(written)
    assert manifest.identity.needs == {"distil": before["distil"]}
    assert [row["state"] for row in status(chain.run_dir)] == ["done", "done"]
    history = read_history(chain.run_dir / "02_adapt" / "export")
    assert history.hub_models == []
    card = model_card(
        Exported("m", "XLMRobertaForMaskedLM", 1, 40, Description(), "", None, False), history
    )
    row = "| adapt | written by stage distil with the model twin | "
    licence = "| that of the rows and the model of stage distil |"
    assert f"{row}{len(written)} {licence}" in card
    assert "| distil | generate | twin |" in card


def test_the_key_of_what_is_trained_is_that_of_what_was_written(
    chain: Chain, tmp_path: Path
) -> None:
    first = chain.keys()
    wider = chain.keys("stages.distil.generation.beam_size=3")
    assert wider["distil"] != first["distil"] and wider["adapt"] != first["adapt"]
    other = write_rows(tmp_path / "other.jsonl", ROWS[:5])
    chain.stages["distil"]["data"]["train"] = [{"path": str(other)}]
    assert chain.keys()["adapt"] != first["adapt"]


def test_a_renamed_stage_keeps_every_key(chain: Chain) -> None:
    first = chain.keys()
    chain.stages = {"teacher": chain.stages["distil"], "adapt": chain.stages["adapt"]}
    chain.stages["adapt"]["data"]["train"] = [{"stage": "teacher"}]
    assert list(chain.keys().values()) == list(first.values())


def test_what_is_written_anew_is_not_mixed_with_what_was_trained(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chain.run() == 0
    assert chain.run(force=["distil"]) == 2
    assert "stage adapt would be mixed" in capsys.readouterr().err


def test_rows_that_are_not_there_yet_are_refused_with_the_stage_to_run(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chain.run(only="adapt") == 2
    err = capsys.readouterr().err
    assert "stage adapt needs distil, which is missing" in err
    assert "run that first: --only distil" in err
    assert chain.run(dry_run=True) == 0
    source = build_source(SourceConfig(stage="distil"), None, "train")
    with pytest.raises(Exception, match="the rows of stage distil are not there yet: run that"):
        list(stream_rows(source))


def test_rows_that_were_changed_are_not_trained_on(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chain.run(only="distil") == 0
    rows = chain.run_dir / "01_distil" / "export" / "rows.jsonl"
    text = rows.read_text(encoding="utf-8")
    rows.write_text(text.replace('"src": "x"', '"src": "z"'), encoding="utf-8")
    assert chain.run() == 3
    assert "export/rows.jsonl has other contents than when it was written" in (
        capsys.readouterr().err
    )


def test_source_and_target_change_places_for_back_translation(chain: Chain) -> None:
    swapped = [{"stage": "distil", "fields": {"src": "tgt", "tgt": "src"}}]
    chain.stages["adapt"]["data"]["train"] = swapped
    assert chain.run() == 0
    config = load_recipe(chain.recipe).stages["adapt"].data.train[0]
    exports = {"distil": chain.run_dir / "01_distil" / "export"}
    rows = [row for _, row in stream_rows(build_source(config, None, "train", "none", exports))]
    assert [row["tgt"] for row in rows] == [row["src"] for row in ROWS]
    assert [row["src"] for row in rows] == [row["targets"] for row in rows]


def test_a_resolved_recipe_names_the_stage_again(chain: Chain, tmp_path: Path) -> None:
    recipe = load_recipe(chain.recipe)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(resolved_yaml(recipe), encoding="utf-8")
    assert load_recipe(resolved) == recipe


def test_recipes_without_such_a_source_keep_their_fingerprints() -> None:
    stage = small_recipe().stages["adapt"]
    from dlm.recipe.fingerprint import semantic_config

    assert "stage" not in semantic_config(stage)["data"]["train"][0]
