"""A run may be cut off at any point; the same command gives what it would have given anyway."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_tools import (
    PowerCut,
    StopAt,
    Uninterrupted,
    assert_same_result,
    copy_needed,
    measured,
    run,
    saved_steps,
    with_callbacks,
)

from dlm.generation.model import write_kind
from dlm.recipe import evaluate_stage, runner
from dlm.training import export

Output = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def resumes_to_the_same(run_dir: Path, stage: Path, whole: Path, kind: str = "pretrain") -> None:
    assert not (stage / "manifest.json").exists()
    assert run(run_dir, only=kind) == 0
    assert_same_result(stage, whole)
    assert not list(stage.rglob(".partial-*"))


@pytest.mark.parametrize(
    ("step", "after_validation", "kept"),
    [
        pytest.param(1, False, [], id="before any checkpoint", marks=pytest.mark.slow),
        pytest.param(8, True, [4], id="just after a validation"),
        pytest.param(12, False, [4, 8], id="just before a checkpoint"),
        pytest.param(13, False, [8, 12], id="just after a checkpoint", marks=pytest.mark.slow),
        pytest.param(23, False, [16, 20], id="before the last step", marks=pytest.mark.slow),
        pytest.param(24, False, [16, 20], id="after the last step", marks=pytest.mark.slow),
        pytest.param(24, True, [16, 20], id="after the last validation"),
    ],
)
def test_an_exception_at_a_step(
    step: int, after_validation: bool, kept: list[int], chain: Path,
    uninterrupted: Uninterrupted, run_dir: Path,
) -> None:  # fmt: skip
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    error = RuntimeError("out of luck")
    with with_callbacks(StopAt(step, error, after_validation=after_validation)):
        assert run(run_dir, only="pretrain") == 3
    assert saved_steps(stage) == kept
    resumes_to_the_same(run_dir, stage, whole)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(2, 24, 3))
def test_an_exception_at_any_step_of_a_stage_that_chooses_its_best_weights(
    step: int, chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    whole = uninterrupted("adapt")
    stage = copy_needed(chain, run_dir, "adapt")
    with with_callbacks(StopAt(step)):
        assert run(run_dir, only="adapt") == 3
    resumes_to_the_same(run_dir, stage, whole, "adapt")


@pytest.mark.slow
def test_interrupted_again_and_again(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    for step in (5, 9, 11, 18):
        with with_callbacks(StopAt(step)):
            assert run(run_dir, only="pretrain") == 3
    resumes_to_the_same(run_dir, stage, whole)


@contextmanager
def torn_save(patch: Patch, error: BaseException) -> Iterator[None]:
    """The third save ends in the middle of its file."""
    save, calls = torch.save, []

    def save_half(state: Any, path: Path, *args: Any, **kwargs: Any) -> None:
        save(state, path, *args, **kwargs)
        calls.append(path)
        if len(calls) == 3:
            Path(path).write_bytes(Path(path).read_bytes()[:5000])
            raise error

    with patch.context() as inner:
        inner.setattr(torch, "save", save_half)
        yield


def no_rename(name: str) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        rename = Path.rename

        def refuse(self: Path, target: Path) -> Path:
            if self.name == name:
                raise PowerCut(name)
            return rename(self, target)

        patch.setattr(Path, "rename", refuse)

    return apply


def no_call(place: Any, name: str) -> Callable[[Patch], None]:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PowerCut(name)

    return lambda patch: patch.setattr(place, name, refuse)


def half_an_export(patch: Patch) -> None:
    def write_and_stop(*args: Any, **kwargs: Any) -> None:
        write_kind(*args, **kwargs)
        raise PowerCut("export")

    patch.setattr(export, "write_kind", write_and_stop)


def test_a_power_cut_while_a_checkpoint_is_written(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: Patch
) -> None:
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    with torn_save(monkeypatch, PowerCut("save")):
        assert run(run_dir, only="pretrain") == 3
    assert saved_steps(stage) == [4, 8]
    assert (stage / "checkpoints" / ".partial-step=00000012" / "state.ckpt").stat().st_size == 5000
    resumes_to_the_same(run_dir, stage, whole)


@pytest.mark.slow
def test_an_error_while_a_checkpoint_is_written_is_explained(
    chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: Patch, capsys: Output
) -> None:
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    with torn_save(monkeypatch, OSError(5, "Input/output error")):
        assert run(run_dir, only="pretrain") == 3
    told = capsys.readouterr().err
    assert "could not be written: [Errno 5] Input/output error; " in told
    assert "the last complete one is of step 8. Correct this and run the same" in told
    assert "Traceback" not in told and not list(stage.rglob(".partial-*"))
    resumes_to_the_same(run_dir, stage, whole)


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        pytest.param(no_rename(".partial-step=00000012"), [4, 8], id="save and rename"),
        pytest.param(half_an_export, [20, 24], id="inside the export"),
        pytest.param(
            no_rename(".partial-export"), [20, 24], id="export and rename", marks=pytest.mark.slow
        ),
        pytest.param(
            no_call(runner, "build_manifest"),
            [20, 24],
            id="export and manifest",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            no_call(runner, "write_manifest"),
            [20, 24],
            id="before the manifest",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_power_cut_between_two_moves(
    cut: Callable[[Patch], None], kept: list[int], chain: Path, uninterrupted: Uninterrupted,
    run_dir: Path, monkeypatch: Patch,
) -> None:  # fmt: skip
    whole = uninterrupted("pretrain")
    stage = copy_needed(chain, run_dir, "pretrain")
    with monkeypatch.context() as patch:
        cut(patch)
        assert run(run_dir, only="pretrain") == 3
    assert saved_steps(stage) == kept
    resumes_to_the_same(run_dir, stage, whole)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["system", "tables", "manifest"])
def test_an_evaluation_that_was_cut_off_goes_on(
    place: str, chain: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: Patch
) -> None:
    whole = uninterrupted("evaluate")
    stage = copy_needed(chain, run_dir, "evaluate")
    cuts = {
        "system": no_call(evaluate_stage, "compare"),
        "tables": no_rename(".partial-export"),
        "manifest": no_call(runner, "write_manifest"),
    }
    with monkeypatch.context() as patch:
        cuts[place](patch)
        assert run(run_dir, only="evaluate") == 3
    assert run(run_dir, only="evaluate") == 0
    tables = [(s / "export" / "comparisons.json").read_bytes() for s in (stage, whole)]
    assert tables[0] == tables[1] and not list(stage.glob(".partial-*"))


def test_a_changed_save_interval_goes_on_from_what_is_there(
    chain: Path, stopped_at_18: Path, uninterrupted: Uninterrupted, run_dir: Path
) -> None:
    shutil.copytree(stopped_at_18, run_dir)
    stage = run_dir / "02_pretrain"
    with with_callbacks(StopAt(22)):
        assert run(run_dir, "checkpoint.every_n_steps=5", "checkpoint.keep=1") == 3
    assert saved_steps(stage) == [20]
    assert run(run_dir, "checkpoint.every_n_steps=3", only="pretrain") == 0
    assert_same_result(stage, uninterrupted("pretrain"))


def test_metrics_survive_a_cut_while_they_are_cut_back(
    stopped_at_18: Path, uninterrupted: Uninterrupted, run_dir: Path, monkeypatch: Patch
) -> None:
    shutil.copytree(stopped_at_18, run_dir)
    stage = run_dir / "02_pretrain"
    before = measured(stage)

    def refuse(*args: Any) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        assert run(run_dir, only="pretrain") == 3
    assert measured(stage) == before
    with (stage / "logs" / "metrics.csv").open("a") as file:
        file.write("18,train/lo")
    resumes_to_the_same(run_dir, stage, uninterrupted("pretrain"))
