"""Further ranks of a distributed job work, and leave locking, talking and recording to rank 0."""

import threading
import time
from dataclasses import replace
from itertools import chain, repeat

import pytest
from small_platform import COMMAND, FakeKinds, Workplace, raising, rows_identity

from dlm.config.schema import HardwareConfig, RecipeConfig
from dlm.errors import UserError
from dlm.process import process_rank
from dlm.recipe import runner
from dlm.recipe.manifest import read_manifest
from dlm.recipe.plan import plan
from dlm.recipe.ranks import check_ranks, found_launcher, launcher
from dlm.recipe.ranks_watch import LEADER_VARIABLE

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FOLLOW_POLL_S", 0.01)
    monkeypatch.setattr(runner, "STALE_AFTER_S", 0.2)


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"])
def test_a_further_rank_is_known_by_its_environment(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    assert process_rank() == 0
    monkeypatch.setenv(variable, "3")
    assert process_rank() == 3


def test_a_further_rank_is_silent_and_ends_when_rank_0_is_gone(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert place.run() == 3
    assert place.kinds.calls == ["pretrain"]
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in place.run_dir.iterdir()) == ["01_pretrain"]
    written = sorted(path.name for path in place.directory("pretrain").iterdir())
    assert written == ["checkpoints", "export"]


def test_a_further_rank_waits_for_each_manifest_of_rank_0(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STALE_AFTER_S", 20.0)
    seen: list[bool] = []

    class Follower(FakeKinds):
        def __call__(self, job):  # type: ignore[no-untyped-def]
            earlier = [export.parent for export in job.exports.values()]
            seen.append(all(read_manifest(directory) for directory in earlier))
            return {}

    follower = Follower()
    place.kinds.interrupt = dict.fromkeys(("pretrain", "adapt"), lambda job: time.sleep(0.2))
    planned = plan(place.recipe, place.run_dir, data_identity=rows_identity, follow=True)
    further = runner.RecipeRun(place.recipe, place.run_dir, "", follower, planned)
    thread = threading.Thread(target=runner.follow, args=(further, 1))
    thread.start()
    assert place.run() == 0
    thread.join(timeout=30)
    assert not thread.is_alive() and seen == [True, True, True]


def test_a_further_rank_skips_what_is_done(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run()
    monkeypatch.setenv("RANK", "1")
    assert place.run() == 0 and place.kinds.calls == []
    monkeypatch.setenv(LEADER_VARIABLE, "1")
    assert place.run(force=["twin"]) == 0 and place.kinds.calls == []


def test_a_crash_of_a_further_rank_leaves_its_own_traceback(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("RANK", "2")
    place.kinds.interrupt["pretrain"] = raising(RuntimeError("out of memory"))
    assert place.run(command=COMMAND) == 3
    place_of_traceback = place.directory("pretrain") / "logs" / "failure-rank2.txt"
    assert "out of memory" in place_of_traceback.read_text()
    assert capsys.readouterr().err == f"rank 2 of stage pretrain: see {place_of_traceback}\n"


BY_TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"}
BY_SRUN = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}


def with_hardware(recipe: RecipeConfig, *hardware: HardwareConfig) -> RecipeConfig:
    """The last one is that of all further stages."""
    settings = chain(hardware, repeat(hardware[-1]))
    stages = {
        name: replace(stage, hardware=own)
        for (name, stage), own in zip(recipe.stages.items(), settings, strict=False)
    }
    return replace(recipe, stages=stages)


@pytest.mark.parametrize(
    ("launched", "name", "remedy"),
    [
        (BY_TORCHRUN, "torchrun", "torchrun --nnodes 1 --nproc-per-node 4"),
        (BY_SRUN, "srun", "srun --nodes 1 --ntasks-per-node 4"),
    ],
)
def test_other_ranks_than_a_launcher_started_are_refused_before_any_work(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: Output, launched: dict[str, str],
    name: str, remedy: str,
) -> None:  # fmt: skip
    for variable, value in launched.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "7")
    place.recipe = with_hardware(place.recipe, HardwareConfig(devices=4))
    assert place.run() == 2 and place.kinds.calls == []
    assert capsys.readouterr().err.startswith(
        f"error: {name} started 4 ranks, 2 on each of 2 nodes, where stage pretrain is set to 4 "
        "(hardware.devices=4, hardware.num_nodes=1): set hardware.devices=2 hardware.num_nodes=2, "
        f"or start by {remedy}\n"
    )
    place.recipe = with_hardware(place.recipe, HardwareConfig(devices=2, num_nodes=2))
    assert place.run() == 0


def test_uneven_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (BY_SRUN | {"SLURM_NTASKS": "3"}).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match="srun started 3 ranks on 2 nodes: start as many on each"):
        found_launcher()


def test_an_interactive_shell_of_slurm_has_started_no_ranks() -> None:
    assert launcher(BY_SRUN) is not None
    assert launcher(BY_SRUN | {"SLURM_JOB_NAME": "bash"}) is None
    batch_script = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    assert launcher(batch_script) is None


def test_ranks_cannot_change_their_number_within_a_command(
    place: Workplace, capsys: Output
) -> None:
    one, two = HardwareConfig(devices=1), HardwareConfig(devices=2)
    place.recipe = with_hardware(place.recipe, one, two, one)
    assert place.run() == 2 and place.kinds.calls == []
    assert capsys.readouterr().err.startswith(
        "error: stage twin is set to 1 ranks (hardware.devices=1, hardware.num_nodes=1) where the "
        "ranks of stage adapt, 2 of them, still run: give both the same hardware.devices, or run "
        "stage twin by a command of its own, --from twin\n"
    )
    assert place.run(stop="adapt") == 0
    check_ranks([("a", "adapt", two), ("t", "tokenizer", one), ("s", "evaluate", one)])
