"""The cluster file: everything that is wrong in it in one message."""

from pathlib import Path

import pytest

from dlm.cluster.settings import load_cluster, shipped_clusters
from dlm.errors import UserError


def problems(tmp_path: Path, text: str) -> str:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        load_cluster(str(file))
    return str(refused.value)


@pytest.mark.parametrize("name", sorted(shipped_clusters()))
def test_every_shipped_cluster_file_is_valid(name: str) -> None:
    assert load_cluster(name).scheduler == name.partition("-")[0]


def test_unknown_settings_and_wrong_values_come_in_one_message(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        "partion: gpu\nnodes: 0\ntime_limit: 1.5h\nlauncher: mpirun\n"
        "stages: {evaluate: {gpu_per_node: 1}}\n",
    )
    assert "5 problems" in text
    assert "partion = 'gpu': unknown setting; did you mean 'partition'?" in text
    assert "nodes = 0: must be at least 1" in text
    assert "time_limit = '1.5h': must be \"D-HH:MM:SS\"" in text
    assert "launcher = 'mpirun': must be one of srun, torchrun" in text
    assert (
        "stages.evaluate.gpu_per_node = 1: unknown setting; did you mean 'gpus_per_node'?" in text
    )


def test_a_time_that_yaml_reads_as_a_number_is_refused(tmp_path: Path) -> None:
    assert "time_limit = 86400: must be quoted text" in problems(tmp_path, "time_limit: 24:00:00\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scheduler: kubernetes\n", "kubernetes.image: missing"),
        (
            "scheduler: kubernetes\npartition: gpu\nkubernetes: {image: x}\n",
            "partition = 'gpu': ignored setting: scheduler is kubernetes",
        ),
        (
            "scheduler: kubernetes\nkubernetes: {image: x}\nstages: {adapt: {qos: low}}\n",
            "stages.adapt.qos = 'low': ignored setting",
        ),
        ("kubernetes: {namespace: x}\n", "ignored setting: scheduler is slurm"),
        ("sbatch: ['--output=x']\n", "--output is set by dlm submit"),
        ("sbatch: [exclusive]\n", "must be an option such as --exclusive"),
        ("container: {mounts: ['/a:/b']}\n", "container.image is not set"),
        ("container: {image: x, mounts: [a]}\n", "must be /outside:/inside"),
        ("environment: {'A B': x}\n", "no name of an environment variable"),
        (
            "gpus_per_node: 4\nprocesses_per_node: 2\n",
            "there is one process for each of gpus_per_node = 4",
        ),
    ],
)
def test_settings_that_nothing_would_read_are_refused(
    text: str, expected: str, tmp_path: Path
) -> None:
    assert expected in problems(tmp_path, text)


def test_a_missing_file_names_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"no cluster file 'slrm'.*did you mean 'slurm'"):
        load_cluster("slrm")
