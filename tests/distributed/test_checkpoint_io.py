"""Files are written behind the training's back, as the state was when it was asked for."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dlm.distributed.checkpoint_io import CheckpointFiles, HostCopies, sum_of


def test_what_changes_after_the_copy_is_not_in_the_file(tmp_path: Path) -> None:
    weight = torch.ones(1000)
    files = CheckpointFiles()
    files.save_checkpoint({"state_dict": {"w": weight}, "step": 3}, tmp_path / "state.ckpt")
    done: list[dict[str, Any] | None] = []
    writing = files.write(lambda: done.append(sum_of(tmp_path / "state.ckpt")))
    writing.wait_until_copied()
    weight.zero_()
    writing.wait()
    state = torch.load(tmp_path / "state.ckpt", weights_only=True)
    assert state["step"] == 3 and state["state_dict"]["w"].sum() == 1000
    assert done[0] is not None and done[0]["size"] == (tmp_path / "state.ckpt").stat().st_size


def test_without_a_background_the_file_is_there_at_once(tmp_path: Path) -> None:
    files = CheckpointFiles(background=False)
    files.save_checkpoint({"w": torch.ones(3)}, tmp_path / "state.ckpt")
    files.write(lambda: None)
    assert sum_of(tmp_path / "state.ckpt") is not None


def test_what_goes_wrong_is_raised_where_training_waits(tmp_path: Path) -> None:
    files = CheckpointFiles()
    files.save_checkpoint({"w": torch.ones(3)}, tmp_path / "no" / "such" / "state.ckpt")
    writing = files.write(lambda: None)
    writing.wait_until_copied()
    with pytest.raises(OSError):
        writing.wait()


def test_copies_use_their_memory_again_and_keep_tied_tensors_tied() -> None:
    shared = torch.arange(6.0).view(2, 3)
    value = {"a": shared, "b": [shared.view(2, 3), (torch.ones(2), "text", None)]}
    copies = HostCopies()
    first, fill = copies.of(value)
    fill()
    assert first["a"] is first["b"][0] and first["b"][1][1:] == ("text", None)
    assert torch.equal(first["a"], shared) and first["a"].data_ptr() != shared.data_ptr()
    shared.mul_(2)
    second, fill = copies.of(value)
    fill()
    assert second["a"].data_ptr() == first["a"].data_ptr() and torch.equal(second["a"], shared)
    third, fill = copies.of({"a": torch.ones(4, dtype=torch.int64)})
    fill()
    assert third["a"].tolist() == [1, 1, 1, 1]
