"""The hashes beside a model: what they notice, what they remember, what they say."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from dlm.errors import UserError
from dlm.models.sums import SUMS, check_sums, file_sum, recorded_sums, write_sums


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two files and a folder; changed long ago, as far as that can be said of them."""
    directory = tmp_path / "a model"
    (directory / "adapter").mkdir(parents=True)
    for name in ("model.safetensors", "README.md", "adapter/config.json"):
        (directory / name).write_text(f"contents of {name}")
    write_sums(directory)
    return directory


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_sha256sum_reads_the_list(model: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=model, check=True)
    check_sums(model)


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "adapter/config.json"])
def test_every_file_counts(model: Path, name: str) -> None:
    flip(model / name)
    with pytest.raises(UserError, match=f"{name} has other contents than when it was written"):
        check_sums(model)
    (model / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        check_sums(model)


def test_what_the_message_says_of_a_change_on_purpose_works(model: Path) -> None:
    (model / "README.md").write_text("a better card")
    with pytest.raises(UserError, match="If the change was meant") as refused:
        check_sums(model)
    command = re.search(r"\(cd .*\)$", str(refused.value))
    assert command is not None
    subprocess.run(command[0], shell=True, check=True)
    check_sums(model)
    assert set(recorded_sums(model) or {}) == {
        "README.md", "adapter/config.json", "model.safetensors",
    }  # fmt: skip
    flip(model / "README.md")
    with pytest.raises(UserError, match="other contents"):
        check_sums(model)


def test_in_a_run_the_stage_is_to_be_made_anew(tmp_path: Path, model: Path) -> None:
    export = model.rename(tmp_path / "export")
    stage = tmp_path / "03_adapt"
    stage.mkdir()
    export = export.rename(stage / "export")
    (stage / "manifest.json").write_text("{}")
    flip(export / "README.md")
    with pytest.raises(UserError, match=r"with --force adapt.*`dlm export` it and change the copy"):
        check_sums(export)


def test_an_older_export_in_its_run_is_checked_by_its_manifest(tmp_path: Path, model: Path) -> None:
    sums = recorded_sums(model) or {}
    export = model.rename(tmp_path / "export")
    (export / SUMS).unlink()
    entries = [{"path": f"export/{name}", "sha256": digest} for name, digest in sums.items()]
    (tmp_path / "manifest.json").write_text(json.dumps({"exports": entries}))
    check_sums(export)
    flip(export / "model.safetensors")
    with pytest.raises(UserError, match="other contents"):
        check_sums(export)


def test_a_list_that_the_manifest_names_may_not_be_gone(tmp_path: Path, model: Path) -> None:
    export = model.rename(tmp_path / "export")
    entries = [{"path": f"export/{SUMS}", "sha256": file_sum(export / SUMS)}]
    (tmp_path / "manifest.json").write_text(json.dumps({"exports": entries}))
    (export / SUMS).unlink()
    with pytest.raises(UserError, match=f"{SUMS} is missing"):
        check_sums(export)


@pytest.mark.parametrize("old", ["  README.md", "  model.safetensors"])
@pytest.mark.parametrize("part", ["hash", "name"])
def test_a_list_that_was_changed_is_named_and_not_the_file(
    old: str, part: str, tmp_path: Path, model: Path
) -> None:
    export = model.rename(tmp_path / "export")
    files = [*(recorded_sums(export) or {}), SUMS]
    entries = [{"path": f"export/{name}", "sha256": file_sum(export / name)} for name in files]
    (tmp_path / "manifest.json").write_text(json.dumps({"exports": entries}))
    text = (export / SUMS).read_text()
    at = text.index(old) + (-1 if part == "hash" else 2)
    digit = "0" if text[at] != "0" else "1"
    (export / SUMS).write_text(text[:at] + digit + text[at + 1 :])
    with pytest.raises(UserError, match=f"{SUMS} has other contents"):
        check_sums(export)


def test_small_files_are_checked_without_the_weights(model: Path) -> None:
    flip(model / "model.safetensors")
    check_sums(model, weights=False)
    flip(model / "README.md")
    with pytest.raises(UserError, match="README"):
        check_sums(model, weights=False)


@pytest.mark.parametrize("kept", [0, 3, 20, 100, 163])
def test_a_list_that_was_cut_is_damaged(model: Path, kept: int) -> None:
    (model / SUMS).write_bytes((model / SUMS).read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"{SUMS}(, line| is damaged).*Put it back"):
        check_sums(model)


@pytest.mark.parametrize("name", ["/etc/hostname", "../other", "adapter/../../other"])
def test_a_list_names_no_file_outside(model: Path, name: str) -> None:
    (model / SUMS).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(UserError, match="line 1 is no hash and name of a file"):
        check_sums(model)


def test_a_directory_in_place_of_the_list_is_named(model: Path) -> None:
    (model / SUMS).unlink()
    (model / SUMS).mkdir()
    with pytest.raises(UserError, match=f"{SUMS} cannot be read"):
        check_sums(model)


def settled(model: Path) -> Path:
    """Wait until hashes are remembered; gives the record."""
    time.sleep(1.1)
    check_sums(model)
    return model.parent / f".{model.name}.sums.json"


def test_a_file_that_stays_the_same_is_not_read_again(model: Path) -> None:
    record = settled(model)
    known = json.loads(record.read_text())
    assert set(known) == set(recorded_sums(model) or {})
    known["README.md"][1] = "0" * 64  # believed: the file is not read
    record.write_text(json.dumps(known))
    with pytest.raises(UserError, match="README"):
        check_sums(model)


def test_a_change_that_keeps_size_and_time_is_noticed(model: Path) -> None:
    settled(model)
    path = model / "model.safetensors"
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="other contents"):
        check_sums(model)


def test_a_file_that_has_just_changed_is_not_remembered(model: Path) -> None:
    check_sums(model)
    assert not (model.parent / f".{model.name}.sums.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"README.md": 1}', '{"README.md": [[1], "x"]}'])
def test_a_damaged_record_costs_nothing_but_a_reading(model: Path, content: str) -> None:
    record = settled(model)
    record.write_text(content)
    check_sums(model)
    assert set(json.loads(record.read_text())) == set(recorded_sums(model) or {})


def test_a_directory_without_hashes_is_not_checked(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    check_sums(tmp_path)
    assert recorded_sums(tmp_path) is None
