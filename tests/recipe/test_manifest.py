import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_platform import DATA

from dlm.config.schema import StageConfig
from dlm.errors import StageFailed, UserError
from dlm.files import write_json
from dlm.recipe.fingerprint import identify
from dlm.recipe.manifest import (
    DamagedManifest,
    Manifest,
    build_manifest,
    missing_exports,
    read_manifest,
    verify_exports,
    write_manifest,
)
from dlm.training.job import StageJob

CONFIG = StageConfig(kind="pretrain", data=DATA, seed=0)


def built(directory: Path, **metrics: object) -> Manifest:
    identity = identify(CONFIG, {}, "rows")
    job = StageJob("small", "pretrain", CONFIG, 0, identity.fingerprint, directory, {})
    started = datetime.now(UTC)
    return build_manifest(
        job, identity, metrics, started=started, seconds=1.5, attempts=1,
        command="dlm run small.yaml",
    )  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "export" / "parts").mkdir(parents=True)
    (tmp_path / "export" / "model.txt").write_text("weights")
    (tmp_path / "export" / "parts" / "more.txt").write_text("more")
    return tmp_path


def test_a_manifest_is_read_back_as_it_was_written(directory: Path) -> None:
    manifest = built(directory, loss=0.25)
    write_manifest(directory, manifest)
    assert read_manifest(directory) == manifest
    assert [item.path for item in manifest.exports] == [
        "export/model.txt", "export/parts/more.txt", "export/SHA256SUMS",
    ]  # fmt: skip
    assert manifest.provenance["versions"]["python"].startswith("3.")
    assert not list(directory.glob(".*"))


def test_changed_exports_are_found_by_size_and_by_hash(directory: Path) -> None:
    manifest = built(directory)
    assert verify_exports(directory, manifest) == []
    (directory / "export" / "model.txt").write_text("WEIGHTS")
    assert missing_exports(directory, manifest) == []
    assert "other contents" in verify_exports(directory, manifest)[0]
    (directory / "export" / "model.txt").write_text("short")
    assert missing_exports(directory, manifest) == ["export/model.txt has 5 bytes in place of 7"]
    (directory / "export" / "model.txt").unlink()
    assert missing_exports(directory, manifest) == ["export/model.txt is missing"]


@pytest.mark.parametrize("content", ["", '{"format": 1', "[]", '{"format": 1}', '{"format": "x"}'])
def test_a_damaged_manifest_is_named(directory: Path, content: str) -> None:
    (directory / "manifest.json").write_text(content)
    with pytest.raises(DamagedManifest, match=r"manifest\.json"):
        read_manifest(directory)


def test_a_manifest_of_a_newer_version_is_not_overwritten(directory: Path) -> None:
    (directory / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match="newer dlm"):
        read_manifest(directory)


def test_a_training_stage_without_export_is_not_done(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="without files"):
        built(tmp_path)


def test_metrics_of_odd_types_do_not_cost_a_finished_stage(directory: Path) -> None:
    write_manifest(directory, built(directory, loss=math.nan, place=directory, pair=(1, 2)))
    metrics = json.loads((directory / "manifest.json").read_text())["metrics"]
    assert metrics == {"loss": "nan", "place": str(directory), "pair": [1, 2]}


def test_a_write_that_fails_leaves_the_old_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory / "values.json"
    write_json(path, {"value": "old"})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"value": "new"})
    assert json.loads(path.read_text()) == {"value": "old"}
    assert sorted(item.name for item in directory.iterdir()) == ["export", "values.json"]
