"""Files of a finished run are damaged one by one: each verb goes on, or says which and what to do.

Nothing may end in a traceback, and what is damaged may not be believed.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_tools import Caller, Outcome, TrainedRun

from dlm.callbacks.metrics_log import MetricsLog


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _no_utf8(path: Path) -> None:
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + b"\xff\xfe\x80" + content[half:])


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": _emptied, "half": _halved, "one bit": _flipped, "no UTF-8": _no_utf8,
    "a directory": _directory, "missing": Path.unlink,
}  # fmt: skip
SPARE = json.dumps({"step": 5, "time": "now", "error": "E", "message": "m"}) + "\n"
"""For files that this run does not have."""
EXPORT_FILES = [
    f"*_length/export/{name}"
    for name in ("model.safetensors", "config.json", "dlm.json", "tokenizer.json",
                 "tokenizer_config.json", "length_predictor.json", "length_predictor.safetensors",
                 "SHA256SUMS")
]  # fmt: skip
READ = [
    "recipe.yaml", "*_adapt/config.yaml", "*_adapt/manifest.json", "*_length/manifest.json",
    "*_evaluate/manifest.json", "*_adapt/started.json", "*_adapt/failure.json",
    "*_adapt/logs/metrics.csv", "*_adapt/samples/step=00000020.jsonl",
    "*_adapt/checkpoints/progress.json", "*_evaluate/export/oracle/numbers_en_de/metrics.json",
    "*_evaluate/export/oracle/numbers_en_de/samples.jsonl", "*_evaluate/export/comparisons.json",
    ".locks/adapt.json", "sweep.json", "cluster.json",
]  # fmt: skip
"""What status, report and export read of a run."""
SHOWN_ALONE = ("_evaluate/export", "logs", "samples", "config.yaml")
"""Parts of names of what status does not look at."""
TOLD = ("metrics", "samples", "comparisons", "config.yaml", "started")
"""Parts of names of what a report shows."""
RESUMED = [
    "logs/metrics.csv", "logs/throughput.csv", "samples/step=00000020.jsonl", "failure.json",
    "checkpoints/progress.json", "checkpoints/step=old", "checkpoints/notes.txt",
    "manifest.invalid.json", "config.yaml", "../.locks/.guard",
]  # fmt: skip
"""Logs and side files of a stage that goes on from its checkpoint; below its directory."""
WRITTEN = ("logs/metrics.csv", "logs/throughput.csv", "samples/step=00000020.jsonl", "config.yaml",
           "checkpoints/progress.json", "../.locks/.guard")  # fmt: skip
"""Those that are written again."""


@pytest.fixture
def run(trained: TrainedRun, tmp_path: Path) -> Path:
    return shutil.copytree(trained.directory, tmp_path / "run")


def damaged(run: Path, name: str, how: str) -> Path:
    """Damage one file, which is made where the run has none; gives its place."""
    head, _, tail = name.partition("/")
    places = list(run.glob(head)) if tail else []
    path = places[0] / tail if places else run / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(SPARE)
    DAMAGES[how](path)
    return path


def explained(outcome: Outcome, *, code: tuple[int, ...] = (0, 2)) -> str:
    """All that was said, if nothing of it is a traceback and an error is one message."""
    said = outcome.out + outcome.err
    assert "Traceback" not in said and "not foreseen" not in said and "Error:" not in said, said
    assert "full traceback" not in said, said
    assert outcome.code in code, said
    assert outcome.err.count("error: ") == (outcome.code == 2), said
    return said


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", EXPORT_FILES)
def test_a_damaged_export_is_named_by_whatever_opens_it(
    name: str, how: str, run: Path, call: Caller
) -> None:
    path = damaged(run, name, how)
    outcomes = [
        call("generate", run, "--prompt", "seven"),
        call("export", run, "--to", run.parent / "copy"),
    ]
    if how in ("one bit", "a directory", "missing"):
        place = ("--limit", "1", "--output", run.parent / "scores")
        outcomes.append(call("evaluate", run, "--tasks", "numbers_en_de", *place))
    for outcome in outcomes:
        said = explained(outcome, code=(2,))
        assert path.name in said and "--force length" in said and "ownload it" not in said
    assert not (run.parent / "copy").exists()
    if how in ("half", "a directory", "missing"):
        assert path.name in explained(call("status", run), code=(0,)).replace("\n", "")


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_of_a_run_is_named_or_does_no_harm(
    name: str, how: str, run: Path, call: Caller
) -> None:
    path = damaged(run, name, how)
    if not any(part in name for part in SHOWN_ALONE):
        said = " ".join(explained(call("status", run)).split())
        if "manifest" in name and how in ("empty", "half", "a directory"):
            assert "makes the stage anew, from its last checkpoint if it has one" in said
    page = run.parent / "report.html"
    reported = call("report", run, "--output", page)
    explained(reported)
    if any(part in name for part in ("recipe", "manifest", "metrics.json", "locks")):
        said = explained(call("export", run, "--to", run.parent / "copy"))
        if name == "recipe.yaml" and how in ("a directory", "missing"):
            assert "`dlm run` its recipe there, which writes recipe.yaml anew" in said
    if reported.code == 2:
        assert path.name in reported.err
    elif any(
        part in name for part in ("metrics", "samples", "comparisons", "config.yaml", "started")
    ):
        # Logs and settings have no hash: a value after a flipped bit, what half a file lacks, or a
        # file that is gone is not seen.
        unseen = how in ("one bit", "half", "missing") and "_evaluate" not in name
        assert unseen or f"{path.parent.name}/{path.name}" in page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stopped(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with stage adapt at step 10 of 20, and nothing behind it."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    for name in ("tokenizer", "pretrain", "adapt"):
        shutil.copytree(trained.stage(name), run / trained.stage(name).name)
    stage = next(run.glob("*_adapt"))
    (stage / "manifest.json").unlink()
    shutil.rmtree(stage / "export")
    shutil.rmtree(stage / "checkpoints" / "step=00000020")
    return run


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, how) for name in RESUMED for how in ("no UTF-8", "a directory")]
    + [(name, how) for name in RESUMED[:2] for how in ("empty", "one bit", "half")],
)
def test_a_damaged_log_or_side_file_does_not_stop_a_resume(
    name: str, how: str, stopped: Path, trained: TrainedRun, tmp_path: Path, call: Caller
) -> None:
    run = shutil.copytree(stopped, tmp_path / "run")
    stage = next(run.glob("*_adapt"))
    path = damaged(run, f"*_adapt/{name}", how)
    said = explained(call("run", trained.recipe, "--run-dir", run, "--only", "adapt"), code=(0,))
    assert "resume" in said
    weights = "export/model.safetensors"
    assert (stage / weights).read_bytes() == (trained.stage("adapt") / weights).read_bytes()
    if name.startswith("logs/") and how in ("empty", "no UTF-8"):
        assert f"{path.name} is damaged" in said and path.with_name(f"{path.name}.damaged").exists()
    if how == "a directory" and name in WRITTEN:
        assert path.is_file() and path.with_name(f"{path.name}.damaged").is_dir()


def test_what_of_a_log_can_be_read_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.csv"
    rows = [f"{step},loss,{step / 2},1.5\n" for step in range(1, 5)]
    broken = "2,loss,rubb\xffish,1.5\n".encode("latin-1")
    before = b"step,metric,value,unix_time\n" + "".join(rows[:2]).encode() + broken
    path.write_bytes(before + "".join(rows[2:]).encode() + b"5,lo")
    MetricsLog(path, resumed_step=3)
    assert path.read_text().splitlines(keepends=True)[1:] == rows[:3]
    assert f"{path} is damaged: 1 of its rows cannot be read" in capsys.readouterr().out
    assert path.with_name("metrics.csv.damaged").read_bytes().startswith(before)


def test_half_a_row_at_the_end_of_a_log_is_no_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,metric,value,unix_time\n1,loss,0.5,1.5\n2,lo")
    MetricsLog(path, resumed_step=1)
    assert "1,loss,0.5,1.5" in path.read_text() and not capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_manifest_makes_its_stage_go_on_from_its_checkpoint(
    how: str, run: Path, trained: TrainedRun, call: Caller
) -> None:
    damaged(run, "*_length/manifest.json", how)
    words = ("run", trained.recipe, "--run-dir", run, "--to", "length")
    again = call(*words)
    said = explained(again)
    # A bit may make another fingerprint of it, which is refused with the ways on.
    assert again.code == 0 or (how == "one bit" and "--force" in said)
    assert explained(call(*words)) if again.code else True


@pytest.mark.parametrize("how", DAMAGES)
def test_rows_are_counted_or_the_damaged_tokenizer_is_named(
    how: str, run: Path, trained: TrainedRun, call: Caller
) -> None:
    path = damaged(run, "*_pretrain/export/tokenizer.json", how)
    words = ("data", "stats", trained.recipe, "--stage", "adapt", "--run-dir", run)
    assert path.name in explained(call(*words), code=(2,))
