"""Names that are given to the real Slurm: the job is called so, and nothing else changes."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, needs_slurm

from dlm.cluster.jobs import ClusterJob, Submission
from dlm.cluster.settings import ClusterConfig, StageResources
from dlm.cluster.slurm import render_script
from dlm.names import TITLE
from dlm.quoting import sbatch_path

pytestmark = needs_slurm
_OF_THE_JOB = r"^ *(JobId|JobName|\w*Time|Priority|StdErr|StdOut|Command|LastSchedEval)=|\w*Time="


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def queued(cluster: SlurmCluster, place: Path, recipe: str) -> tuple[str, str, str]:
    """(name, place of the log, everything else) of the job of a recipe called so."""
    resources = StageResources(nodes=1, gpus_per_node=0, processes_per_node=1, partition="test")
    job = ClusterJob("adapt", "03_adapt", (), resources, ())
    submission = Submission(recipe, place / recipe, place, ClusterConfig(), (job,))
    script = place / "script.sbatch"
    script.write_text(render_script(submission, job), encoding="utf-8")
    number = cluster.call("sbatch", "--parsable", "--hold", str(script))
    shown = cluster.call("scontrol", "show", "job", number)
    cluster.call("scancel", number)
    rest = [line for line in shown.splitlines() if not re.search(_OF_THE_JOB, line)]
    log = re.search(r"StdOut=(.*)", shown)
    assert log is not None
    name = cluster.call("squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%j")
    return name, log[1].replace(f"-{number}.out", "-%j.out"), "\n".join(rest)


@pytest.mark.parametrize(
    "recipe",
    [
        "two words",
        'a "b" --exclusive',
        "it's 'so' --partition=other",
        "a # --nodes=2",
        "$(touch x) `y` ; & | > <b> * ? [c] {d} ~ ! ^ =",
        "100 % %j %A",
        "Größe 中文 🙂",
        "e" * 100,
    ],
)
def test_a_job_has_the_name_of_its_recipe_and_nothing_else_of_it(
    recipe: str, cluster: SlurmCluster, tmp_path: Path
) -> None:
    assert TITLE.fits(recipe)
    name, log, rest = queued(cluster, tmp_path, recipe)
    assert name == f"dlm-{recipe}-03_adapt"
    # scontrol shows "%%" otherwise than slurmd reads it.
    assert "%" in recipe or log == f"{tmp_path}/{recipe}/slurm/logs/03_adapt-%j.out"
    assert rest == queued(cluster, tmp_path, "plain")[2]


def test_a_log_lies_where_it_is_said_to(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = tmp_path / """100 % %j "a" 'b' #c"""
    folder.mkdir()
    script = tmp_path / "script.sbatch"
    output = sbatch_path(str(folder / "log"), "-%j.out")
    script.write_text(f"#!/bin/bash\n#SBATCH --output={output}\necho done\n", encoding="utf-8")
    number = cluster.call("sbatch", "--parsable", "--wait", str(script))
    assert (folder / f"log-{number}.out").read_text() == "done\n"


def test_a_partition_that_is_more_than_a_name_is_refused_by_slurm(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    resources = StageResources(nodes=1, partition="test --exclusive")
    job = ClusterJob("adapt", "03_adapt", (), resources, ())
    submission = Submission("plain", tmp_path, tmp_path, ClusterConfig(), (job,))
    script = tmp_path / "script.sbatch"
    script.write_text(render_script(submission, job), encoding="utf-8")
    with pytest.raises(AssertionError, match="invalid partition specified: test --exclusive"):
        cluster.call("sbatch", "--hold", str(script))
