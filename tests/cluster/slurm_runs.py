"""Submit the tiny chain to the real Slurm, hit it in mid-stage, look at what it left."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import yaml
from slurm_cluster import SlurmCluster

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tests" / "cluster" / "chain.yaml"
STAGES = ("tokenizer", "pretrain", "adapt")
PATIENCE_S = 120.0


@dataclass
class SubmittedRun:
    """A run directory whose stages go through Slurm."""

    cluster: SlurmCluster
    directory: Path

    def dlm(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`dlm WORDS`, as on a login node of the cluster."""
        return call_dlm(*words, environment=self.cluster.environment)

    def submit(self, *words: str, settings: dict[str, object] | None = None) -> dict[str, str]:
        """Queue the chain; gives stage -> job."""
        # Both nodes are this machine, under names that only Slurm knows.
        environment = {"MASTER_ADDR": "127.0.0.1"}
        common = {"scheduler": "slurm", "partition": "test", "environment": environment}
        self._cluster_file.write_text(yaml.safe_dump({**common, **(settings or {})}))
        done = self.dlm(*self.submission(), *words)
        assert done.returncode == 0, done.stderr
        return self.jobs()

    def submission(self) -> list[str]:
        """The words of `dlm submit`."""
        place = ["--run-dir", str(self.directory)]
        return ["submit", str(RECIPE), "--cluster", str(self._cluster_file), *place]

    @property
    def _cluster_file(self) -> Path:
        return self.directory.parent / "cluster.yaml"

    def jobs(self) -> dict[str, str]:
        record = json.loads((self.directory / "jobs.json").read_text())
        return {job["stage"]: job["job"] for job in record["jobs"]}

    def stage(self, name: str) -> Path:
        return self.directory / f"{STAGES.index(name) + 1:02d}_{name}"

    def log(self, name: str) -> str:
        files = sorted((self.directory / "slurm" / "logs").glob(f"*_{name}-*.out"))
        return "\n".join(file.read_text() for file in files)

    def start_from(self, finished: Path, *stages: str) -> None:
        """Stages that are done already."""
        for name in stages:
            shutil.copytree(finished / self.stage(name).name, self.stage(name))

    def await_state(self, job: str, *wanted: str) -> None:
        """Until a job, or every task of an array, has one of these states."""

        def reached() -> bool:
            states = self.cluster.states_of(job)
            if "PENDING BeginTime" in states:
                self._shorten_wait(job)
            return bool(states) and all(s.split()[0] in wanted for s in states)

        self.wait(reached, f"job {job} to be {wanted}")

    def _shorten_wait(self, job: str) -> None:
        """A job that is queued again waits two minutes for its old credential to expire; a few
        seconds are enough for another one."""
        shown = self.cluster.call("scontrol", "show", "job", job)
        begins = re.findall(r"StartTime=(2\S+)", shown)
        soon = datetime.now() + timedelta(seconds=10)
        if begins and datetime.fromisoformat(begins[0]) > soon:
            self.cluster.call("scontrol", "update", f"jobid={job}", "starttime=now+3")

    def await_middle(self, name: str) -> int:
        """Until a stage has a checkpoint and is in the middle of its steps."""

        def step() -> int:
            try:
                text = (self.stage(name) / "checkpoints" / "progress.json").read_text()
                return int(json.loads(text)["step"])
            except (OSError, ValueError, KeyError):
                return 0

        self.wait(lambda: step() >= 20, f"{name} to come to step 20")
        assert step() < 140, "the stage was too fast to be hit"
        return step()

    def await_requeue(self, job: str) -> None:
        """Until Slurm has put a job back into its queue."""
        self.wait(lambda: self.restarts(job) > 0, "the job to be queued again")

    def restarts(self, job: str) -> int:
        shown = self.cluster.call("scontrol", "show", "job", job)
        return int(re.findall(r"Restarts=(\d+)", shown)[0])

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                queue = self.cluster.call("squeue", "--states=all", check=False)
                logs = "\n".join(self.log(name) for name in STAGES)
                raise TimeoutError(f"waited in vain for {what}\n{queue}\n{logs}")
            time.sleep(0.1)

    def weights(self, name: str) -> bytes:
        return weights(self.stage(name))

    def attempts(self, name: str) -> int:
        return int(json.loads((self.stage(name) / "manifest.json").read_text())["attempts"])


def call_dlm(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    ours = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    kept = {name: value for name, value in environment.items() if not name.endswith("RANK")}
    return subprocess.run(
        [sys.executable, "-m", "dlm.cli", *words], env={**kept, **ours}, capture_output=True,
        text=True, timeout=PATIENCE_S,
    )  # fmt: skip


def undisturbed(run_dir: Path) -> Path:
    """The chain in one process without Slurm."""
    done = call_dlm(
        "run", str(RECIPE), "--run-dir", str(run_dir), environment=dict(os.environ)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return run_dir


def weights(stage: Path) -> bytes:
    return (stage / "export" / "model.safetensors").read_bytes()


def losses(stage: Path) -> dict[int, float]:
    """Step -> training loss, the last that was written."""
    with (stage / "logs" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {int(r["step"]): float(r["value"]) for r in rows if r["metric"] == "train/loss"}
