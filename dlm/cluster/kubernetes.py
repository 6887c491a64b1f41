"""Kubernetes: the stages of a run as the jobs of one JobSet, each after the one before it."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from dlm.cluster.jobs import ClusterJob, Submission
from dlm.quoting import yaml_text

RECIPE_FOLDER = "/etc/dlm"
PORT = 29_500
_LONGEST_NAME = 24
"""Of a JobSet and of a job in it: a host name, both and two numbers, has at most 63 characters."""

Manifest = dict[str, Any]


def jobset_name(submission: Submission, cell: str, submitted: str) -> str:
    """A name of its own for every ``dlm submit``: finished JobSets cannot be applied again."""
    content = f"{submission.run_dir}/{cell}/{submitted}"
    number = hashlib.sha256(content.encode()).hexdigest()[:6]
    return f"{_slug(submission.recipe)[: _LONGEST_NAME - 7].rstrip('-')}-{number}"


def render_manifests(
    submission: Submission, recipes: Mapping[str, str], submitted: str
) -> dict[str, list[Manifest]]:
    """Name of a JobSet -> the recipe as a ConfigMap, and the JobSet; one JobSet a cell.

    ``recipes``: cell -> its recipe, resolved; of an ordinary run under the empty name.
    """
    manifests = {}
    for cell, recipe_yaml in recipes.items():
        jobs = [job for job in submission.jobs if not cell or cell in job.cells]
        if jobs:
            name = jobset_name(submission, cell, submitted)
            namespace = submission.cluster.kubernetes.namespace
            config_map = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": namespace},
                "data": {"recipe.yaml": recipe_yaml},
            }
            manifests[name] = [config_map, _jobset(name, submission, jobs, cell)]
    return manifests


def manifests_yaml(manifests: Sequence[Manifest]) -> str:
    """Several manifests as one file."""
    return yaml_text(*manifests)


def job_name(job: ClusterJob) -> str:
    """What a stage is called inside its JobSet."""
    number, _, name = job.directory.partition("_")
    return f"s{number}-{_slug(name)}"[:_LONGEST_NAME].rstrip("-")


def pod_run_dir(submission: Submission, cell: str) -> str:
    """The run directory as pods see it."""
    root = submission.cluster.kubernetes.run_root
    place = Path(root) / submission.run_dir.name if root else submission.run_dir
    return str(place / cell)


def _jobset(name: str, submission: Submission, jobs: Sequence[ClusterJob], cell: str) -> Manifest:
    replicated: list[Manifest] = []
    for job in jobs:
        before = replicated[-1]["name"] if replicated else None
        replicated.append(
            {
                "name": job_name(job),
                "replicas": 1,
                # One entry, and none for the first, is all that JobSet knows.
                **({"dependsOn": [{"name": before, "status": "Complete"}]} if before else {}),
                "template": {"spec": _job(name, submission, job, cell)},
            }
        )
    namespace = submission.cluster.kubernetes.namespace
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": name},
            "replicatedJobs": replicated,
        },
    }


def _job(name: str, submission: Submission, job: ClusterJob, cell: str) -> Manifest:
    return {
        "completionMode": "Indexed",
        "parallelism": job.nodes,
        "completions": job.nodes,
        "backoffLimit": submission.cluster.retries * job.nodes,
        "podFailurePolicy": {
            "rules": [
                {
                    # The configuration or the data: another attempt would not change it.
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "dlm", "operator": "In", "values": [2]},
                },
                {
                    # Preempted, its state is saved: a new pod goes on, and nothing is counted.
                    "action": "Ignore",
                    "onExitCodes": {"containerName": "dlm", "operator": "In", "values": [75]},
                },
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
            ]
        },
        "template": {"spec": _pod(name, submission, job, cell)},
    }


def _pod(name: str, submission: Submission, job: ClusterJob, cell: str) -> Manifest:
    cluster, kubernetes = submission.cluster, submission.cluster.kubernetes
    run_dir = pod_run_dir(submission, cell)
    words = [cluster.python or "python", "-m", "dlm.cli", "run", f"{RECIPE_FOLDER}/recipe.yaml",
             "--run-dir", run_dir, "--only", job.stage]  # fmt: skip
    words += job.overrides
    # As process 1 it is dlm itself that is asked to stop, and its exit code that counts.
    script = "\n".join([*cluster.setup, f"exec {' '.join(map(quote, words))}"])
    volumes = {f"volume-{i}": claim for i, claim in enumerate(kubernetes.volumes)}
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": cluster.signal_lead_s,
        **(
            {"serviceAccountName": kubernetes.service_account} if kubernetes.service_account else {}
        ),
        **({"nodeSelector": kubernetes.node_selector} if kubernetes.node_selector else {}),
        "containers": [
            {
                "name": "dlm",
                "image": kubernetes.image,
                "command": ["bash", "-c", script],
                **(
                    {"workingDir": kubernetes.working_directory}
                    if kubernetes.working_directory
                    else {}
                ),
                "env": _environment(name, submission, job),
                "resources": _resources(submission, job),
                "volumeMounts": [
                    {"name": "recipe", "mountPath": RECIPE_FOLDER, "readOnly": True},
                    {"name": "shared-memory", "mountPath": "/dev/shm"},
                    *(
                        {"name": volume, "mountPath": kubernetes.volumes[claim]}
                        for volume, claim in volumes.items()
                    ),
                ],
            }
        ],
        "volumes": [
            {"name": "recipe", "configMap": {"name": name}},
            {
                "name": "shared-memory",
                "emptyDir": {"medium": "Memory", "sizeLimit": kubernetes.shared_memory},
            },
            *(
                {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
                for volume, claim in volumes.items()
            ),
        ],
    }


def _environment(name: str, submission: Submission, job: ClusterJob) -> list[Manifest]:
    given = [{"name": key, "value": text} for key, text in submission.cluster.environment.items()]
    if job.nodes == 1:
        return given
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    return [
        *given,
        # Lightning starts a process for each device of a node and needs to know which node it is.
        {"name": "NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": index}}},
        {"name": "MASTER_ADDR", "value": f"{name}-{job_name(job)}-0-0.{name}"},
        {"name": "MASTER_PORT", "value": str(PORT)},
    ]


def _resources(submission: Submission, job: ClusterJob) -> Manifest:
    given, limits = job.resources, {}
    if given.cpus_per_process is not None:
        limits["cpu"] = str(given.cpus_per_process * job.processes)
    if given.memory_per_node is not None:
        limits["memory"] = given.memory_per_node
    if job.gpus:
        limits[submission.cluster.kubernetes.gpu_resource] = str(job.gpus)
    return {"requests": dict(limits), "limits": limits}


def _slug(text: str) -> str:
    """Letters and digits alone, beginning with a letter, as names of services do."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"
    return slug if slug[0].isalpha() else f"run-{slug}"
