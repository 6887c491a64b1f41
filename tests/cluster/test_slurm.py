"""`dlm submit` on a real Slurm: order, two nodes, preemption, a node that dies, cancelling."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, needs_slurm
from slurm_runs import SubmittedRun, losses, undisturbed, weights

pytestmark = needs_slurm
TWO_NODES: dict[str, object] = {"nodes": 2}
NewRun = Callable[..., SubmittedRun]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("reference") / "run")


@pytest.fixture
def new_run(cluster: SlurmCluster, reference: Path, tmp_path: Path) -> NewRun:
    """A new run directory in which the named stages are done."""

    def make(*done: str) -> SubmittedRun:
        run = SubmittedRun(cluster, tmp_path / "run")
        run.start_from(reference, *done)
        return run

    return make


def test_a_chain_runs_in_order_and_is_refused_while_it_is_queued(
    new_run: NewRun, reference: Path
) -> None:
    run = new_run()
    jobs = run.submit()
    again = run.dlm(*run.submission())
    assert again.returncode == 4 and f"dlm cancel {run.directory}" in again.stderr
    assert all(f"{job} ({stage})" in again.stderr for stage, job in jobs.items())
    assert "PENDING (Dependency)" in run.dlm("status", str(run.directory)).stdout
    for stage in jobs:
        run.await_state(jobs[stage], "COMPLETED")
    shown = [run.cluster.call("scontrol", "show", "job", job) for job in jobs.values()]
    times = [(_field(text, "StartTime"), _field(text, "EndTime")) for text in shown]
    assert times[0][1] <= times[1][0] and times[1][1] <= times[2][0]
    for stage in ("pretrain", "adapt"):
        assert run.weights(stage) == weights(reference / run.stage(stage).name)
    assert run.dlm("status", str(run.directory)).stdout.count("COMPLETED") == 3
    done = run.dlm(*run.submission())
    assert done.returncode == 0 and "nothing to submit" in done.stdout


def test_a_stage_on_two_nodes_trains_what_one_process_does(
    new_run: NewRun, reference: Path
) -> None:
    run = new_run("tokenizer")
    job = run.submit("--only", "pretrain", settings=TWO_NODES)["pretrain"]
    run.await_state(job, "COMPLETED")
    assert losses(run.stage("pretrain")) == pytest.approx(
        losses(reference / "02_pretrain"), abs=1e-4
    )
    assert run.log("pretrain").count("done in") == 1
    assert "NumNodes=2" in run.cluster.call("scontrol", "show", "job", job)


@pytest.mark.parametrize("how", ["requeue", "batch", "steps", "killed"])
def test_a_preempted_stage_goes_on_by_itself_to_the_same_weights(
    how: str, new_run: NewRun, reference: Path
) -> None:
    run = new_run("tokenizer")
    job = run.submit("--only", "pretrain", "hardware.num_workers=1")["pretrain"]
    run.await_middle("pretrain")
    holder = json.loads((run.directory / ".locks" / "pretrain.json").read_text())
    command = {
        "killed": ["kill", "-9", str(holder["pid"])],
        "requeue": ["scontrol", "requeue", job],
        "batch": ["scancel", "--batch", "--signal=USR1", job],
        "steps": ["scancel", "--signal=USR1", job],
    }[how]
    run.cluster.call(*command)
    run.await_requeue(job)
    run.await_state(job, "COMPLETED")
    assert run.weights("pretrain") == weights(reference / "02_pretrain")
    assert run.attempts("pretrain") == 2
    assert "resuming from step" in run.log("pretrain")
    if how == "killed":
        assert "exit code 137: queued again" in run.log("pretrain")
    if how in ("batch", "steps"):
        assert "has saved its state" in run.log("pretrain")
        assert "exit code 75: queued again" in run.log("pretrain")


def test_two_nodes_started_by_torchrun_save_when_the_script_is_told_to(
    new_run: NewRun, reference: Path
) -> None:
    run = new_run("tokenizer")
    settings = {**TWO_NODES, "launcher": "torchrun"}
    job = run.submit("--only", "pretrain", settings=settings)["pretrain"]
    run.await_middle("pretrain")
    run.cluster.call("scancel", "--batch", "--signal=USR1", job)
    run.await_requeue(job)
    run.await_state(job, "COMPLETED")
    assert "has saved its state" in run.log("pretrain")
    assert losses(run.stage("pretrain")) == pytest.approx(
        losses(reference / "02_pretrain"), abs=1e-4
    )


def test_a_stage_whose_node_dies_goes_on_elsewhere_to_the_same_weights(
    new_run: NewRun, reference: Path, cluster: SlurmCluster
) -> None:
    run = new_run("tokenizer")
    job = run.submit("--only", "pretrain")["pretrain"]
    run.await_middle("pretrain")
    (node,) = _nodes(run, job)
    with dead_node(cluster, node):
        run.await_requeue(job)
        run.await_state(job, "COMPLETED")
        assert _nodes(run, job) != [node]
    assert run.weights("pretrain") == weights(reference / "02_pretrain")


def test_two_nodes_of_which_one_dies_go_on_when_it_is_back(
    new_run: NewRun, reference: Path, cluster: SlurmCluster
) -> None:
    run = new_run("tokenizer")
    job = run.submit("--only", "pretrain", settings=TWO_NODES)["pretrain"]
    run.await_middle("pretrain")
    with dead_node(cluster, "n2"):
        run.await_requeue(job)
    run.await_state(job, "COMPLETED")
    assert losses(run.stage("pretrain")) == pytest.approx(
        losses(reference / "02_pretrain"), abs=1e-4
    )


def test_cancelled_jobs_end_keep_their_checkpoints_and_do_not_come_back(new_run: NewRun) -> None:
    run = new_run("tokenizer")
    jobs = run.submit()
    run.await_middle("pretrain")
    cancelled = run.dlm("cancel", str(run.directory))
    assert cancelled.returncode == 0, cancelled.stderr
    for stage, job in jobs.items():
        assert f"cancelled {stage}: job {job}" in cancelled.stdout
        run.await_state(job, "CANCELLED")
    assert "left to Slurm" in run.log("pretrain")
    assert run.restarts(jobs["pretrain"]) == 0
    status = run.dlm("status", str(run.directory)).stdout
    assert status.count("CANCELLED") == 2 and "partial" in status
    assert "no job" in run.dlm("cancel", str(run.directory)).stdout


def test_seeds_are_tasks_of_an_array_with_a_run_directory_each(new_run: NewRun) -> None:
    run = new_run()
    jobs = run.submit("--seeds", "1,2", "--to", "pretrain", "train.steps=4")
    for job in jobs.values():
        run.await_state(job, "COMPLETED")
    places = [run.directory / f"seed-{seed}" / "02_pretrain" for seed in (1, 2)]
    assert weights(places[0]) != weights(places[1])
    shown = run.dlm("status", str(run.directory)).stdout
    assert "cell seed-1 " in shown and "cell seed-2 " in shown
    assert shown.count("2 of 3 stages done") == 2


def test_cells_wait_for_each_other_where_only_one_may_run_at_once(new_run: NewRun) -> None:
    run = new_run()
    jobs = run.submit("--seeds", "1,2", "--to", "tokenizer", "--max-array-tasks", "1")
    shown = run.cluster.call("scontrol", "show", "job", jobs["tokenizer"])
    assert "ArrayTaskThrottle=1" in shown
    run.await_state(jobs["tokenizer"], "COMPLETED")
    tasks = run.cluster.call("scontrol", "show", "job", jobs["tokenizer"]).split("\n\n")
    times = sorted((_field(t, "StartTime"), _field(t, "EndTime")) for t in tasks if t.strip())
    assert len(times) == 2 and times[0][1] <= times[1][0]


class dead_node:
    """The node has lost its power, and Slurm knows; afterwards it is back."""

    def __init__(self, cluster: SlurmCluster, node: str) -> None:
        self.cluster, self.node = cluster, node

    def __enter__(self) -> None:
        self.cluster.kill_node(self.node)
        self.cluster.call(
            "scontrol", "update", f"nodename={self.node}", "state=down", "reason=test"
        )

    def __exit__(self, *error: object) -> None:
        self.cluster.start_node(self.node)
        end = time.monotonic() + 30
        while "idle" not in self.cluster.call(
            "sinfo", "--noheader", "--nodes", self.node, "--format=%T"
        ):
            assert time.monotonic() < end, f"{self.node} does not come back"
            self.cluster.call(
                "scontrol", "update", f"nodename={self.node}", "state=resume", check=False
            )
            time.sleep(0.5)


def _field(shown: str, name: str) -> str:
    return next(word.partition("=")[2] for word in shown.split() if word.startswith(f"{name}="))


def _nodes(run: SubmittedRun, job: str) -> list[str]:
    shown = run.cluster.call("squeue", "--noheader", "--states=all", "--jobs", job, "--format=%N")
    return shown.split(",")
