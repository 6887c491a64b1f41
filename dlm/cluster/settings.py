"""The cluster file: where stages run and with what, never what they do."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dlm.config.loading import load_settings
from dlm.config.references import Problem
from dlm.config.shipped import recipe_folders
from dlm.errors import UserError, did_you_mean
from dlm.names import DNS_LABEL, DNS_NAME, LINE, VARIABLE, NameRule

FOLDER = "cluster"
"""The folder of shipped cluster files, beside the recipes."""


@dataclass(frozen=True)
class StageResources:
    """What one stage is given; what is left out is as at the top of the cluster file."""

    nodes: int | None = None
    """Nodes (machines). Default: 1; stages that one process carries out never get more."""
    gpus_per_node: int | None = None
    """GPUs of each node, one process each. Default: 0, which trains on CPUs."""
    processes_per_node: int | None = None
    """Without GPUs: processes on each node. Default: 1."""
    cpus_per_process: int | None = None
    """CPU cores of each process. Default: the cluster's own."""
    memory_per_node: str | None = None
    """Memory in the scheduler's own spelling (Slurm "64G", Kubernetes "64Gi")."""
    time_limit: str | None = None
    """Slurm: how long one job may take ("D-HH:MM:SS", "HH:MM:SS"), quoted. A stage that needs
    longer saves its state before the end and is queued again."""
    partition: str | None = None
    """Slurm: the partition, or several with commas."""
    qos: str | None = None
    """Slurm: the quality of service."""
    constraint: str | None = None
    """Slurm: features that nodes must have, such as "h100"."""
    max_array_tasks: int | None = None
    """Slurm: how many cells of a sweep (or of --seeds) may have the stage's job running at once.
    Default: as many as there is room for."""
    sbatch: list[str] | None = None
    """Slurm: further options of sbatch, each as it would stand behind #SBATCH."""


@dataclass(frozen=True)
class ContainerConfig:
    """Slurm: the container in which a stage runs."""

    runtime: Literal["pyxis", "apptainer"] = "pyxis"
    """srun's own options (NVIDIA pyxis and enroot), or `apptainer exec` below srun."""
    image: str | None = None
    """Image; without one there is no container. Pyxis: a name, a path of a .sqsh file;
    apptainer: a .sif file or docker://..."""
    mounts: list[str] = field(default_factory=list)
    """What is seen inside, each "outside:inside" or "outside:inside:ro". The folder in which
    `dlm submit` is called and the run directory are added."""
    options: list[str] = field(default_factory=list)
    """Further options: of srun (--container-...), or of `apptainer exec` (--nv is given with
    GPUs)."""


@dataclass(frozen=True)
class KubernetesConfig:
    """Kubernetes: a JobSet whose jobs are the stages."""

    namespace: str = "default"
    """Namespace."""
    image: str | None = None
    """Container image with dlm."""
    volumes: dict[str, str] = field(default_factory=dict)
    """Persistent volume claim -> the path at which it is mounted. Several nodes need a claim of
    access mode ReadWriteMany."""
    run_root: str | None = None
    """Folder of run directories inside the pods, on a volume. Default: the same path as here."""
    working_directory: str | None = None
    """Folder in which dlm is called, for relative paths of a recipe. Default: the image's."""
    node_selector: dict[str, str] = field(default_factory=dict)
    """Labels that nodes must have."""
    gpu_resource: str = "nvidia.com/gpu"
    """Name of the resource that GPUs are."""
    shared_memory: str = "8Gi"
    """Size of /dev/shm, which processes of one node use to talk."""
    service_account: str | None = None
    """Service account of the pods."""


@dataclass(frozen=True)
class ClusterConfig(StageResources):
    """A whole cluster file."""

    scheduler: Literal["slurm", "kubernetes"] = "slurm"
    """What queues the jobs."""
    account: str | None = None
    """Slurm: the account that is charged."""
    launcher: Literal["srun", "torchrun"] = "srun"
    """Slurm: what starts the processes: srun one each, or torchrun once a node."""
    python: str | None = None
    """The Python that has dlm. Default: the one that submits; in containers and pods `python`."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before a stage: `module load ...`, `source .../activate`."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of every process."""
    container: ContainerConfig = field(default_factory=ContainerConfig)
    """Slurm: a container."""
    signal_lead_s: int = 120
    """Seconds in which a stage can save its state: so long before the time limit it is asked to
    stop (Slurm, --signal), or after it was asked (Kubernetes, grace period)."""
    max_requeues: int = 100
    """Slurm: how often a job is queued again after exit code 75."""
    retries: int = 2
    """How often a stage is tried again that failed for another reason than its configuration (exit
    code 2): a node or a GPU may have gone down."""
    kubernetes: KubernetesConfig = field(default_factory=KubernetesConfig)
    """Kubernetes."""
    stages: dict[str, StageResources] = field(default_factory=dict)
    """Stage name, or kind -> what is different for it. A name wins over a kind."""


_SLURM_ONLY = ("time_limit", "partition", "qos", "constraint", "sbatch", "account", "launcher",
               "container", "max_requeues", "max_array_tasks")  # fmt: skip
_OWNED = ("--array", "--begin", "--chdir", "--cpus-per-task", "--dependency", "--error", "--gres",
          "--gpus-per-node", "--job-name", "--mem", "--no-requeue", "--nodes", "--ntasks",
          "--ntasks-per-node", "--open-mode", "--output", "--parsable", "--requeue", "--signal",
          "--time", "--partition", "--qos", "--account", "--constraint")  # fmt: skip
_TIME_LIMIT = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}", re.ASCII)
_AT_LEAST = {"nodes": 1, "gpus_per_node": 0, "processes_per_node": 1, "cpus_per_process": 1,
             "max_array_tasks": 1, "signal_lead_s": 10, "max_requeues": 0,
             "retries": 0}  # fmt: skip


def load_cluster(path_or_name: str) -> ClusterConfig:
    """The cluster file at a path, or of a shipped name (slurm, kubernetes, ...).

    Raises:
        UserError: There is no such file, it is no YAML mapping; or else everything that is wrong
            in it, one line each.
    """
    path = _find(path_or_name)
    cluster, raw, problems = load_settings(ClusterConfig, path)
    problems += _problems(cluster, raw)
    if problems:
        lines = dict.fromkeys(f"  {problem}" for problem in problems)
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise UserError("\n".join([f"{count} in {path}:", *lines]))
    return cluster


def shipped_clusters() -> dict[str, Path]:
    """Name -> file of every shipped cluster file."""
    files = [path for folder in recipe_folders() for path in (folder / FOLDER).glob("*.yaml")]
    return {path.stem: path for path in sorted(files)}


def _find(path_or_name: str) -> Path:
    path, shipped = Path(path_or_name), shipped_clusters()
    if path.is_file():
        return path
    if path_or_name in shipped:
        return shipped[path_or_name]
    raise UserError(
        f"no cluster file '{path_or_name}': neither a file nor a shipped one"
        f"{did_you_mean(path.stem, shipped)}. Copy one of {', '.join(map(str, shipped.values()))} "
        "and fill in your partition"
    )


def _problems(cluster: ClusterConfig, raw: Mapping[str, Any]) -> Iterator[Problem]:
    if cluster.scheduler == "kubernetes":
        yield from _ignored(raw, _SLURM_ONLY, "scheduler is kubernetes, and only Slurm reads it")
        if cluster.kubernetes.image is None:
            yield Problem("kubernetes.image", "missing: name a container image with dlm")
    else:
        yield from _ignored(raw, ("kubernetes",), "scheduler is slurm")
    for key, resources in {"": cluster, **cluster.stages}.items():
        yield from _of_resources(f"stages.{key}." if key else "", resources)
    yield from _names(cluster)
    if cluster.container.image is None:
        inner = raw.get("container")
        given = inner if isinstance(inner, Mapping) else {}
        for name in (name for name in ("mounts", "options", "runtime") if name in given):
            yield Problem(f"container.{name}", "ignored setting: container.image is not set")
    for index, mount in enumerate(cluster.container.mounts):
        if not re.fullmatch(r"/[^:,]*:/[^:,]*(:[a-z]+)?", mount):
            yield Problem(f"container.mounts[{index}]", "must be /outside:/inside", mount)


def _names(cluster: ClusterConfig) -> Iterator[Problem]:
    """Texts that would be more in a script or a manifest than the value they are for."""
    for key, text in _texts(asdict(cluster)):
        # Setup is shell, of as many lines as it likes; the value of a variable may have several.
        if key.startswith(("setup[", "environment.")):
            if "\0" in text:
                yield Problem(key, "no value of a shell holds a NUL character", text)
        elif reason := LINE.problem(text):
            yield Problem(key, reason, text)
    for name in cluster.environment:
        if reason := VARIABLE.problem(name):
            yield Problem(f"environment.{name}", reason)
    kubernetes = cluster.kubernetes
    named: list[tuple[str, NameRule, str]] = [("namespace", DNS_LABEL, kubernetes.namespace)]
    named += [("service_account", DNS_NAME, name) for name in (kubernetes.service_account,) if name]
    named += [("volumes", DNS_NAME, claim) for claim in kubernetes.volumes]
    for key, rule, name in named:
        if reason := rule.problem(name):
            yield Problem(f"kubernetes.{key}", reason, name)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text among nested settings, keys of mappings too, with its place."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            at = f"{key}.{name}" if key else name
            if not name.isprintable():
                yield f"a key of {key}", name
            yield from _texts(inner, at)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{index}]")


def _ignored(raw: Mapping[str, Any], names: tuple[str, ...], why: str) -> Iterator[Problem]:
    stages = raw.get("stages")
    places = {"": raw} | {
        f"stages.{name}.": own
        for name, own in (stages.items() if isinstance(stages, Mapping) else ())
        if isinstance(own, Mapping)
    }
    for prefix, own in places.items():
        for name in names:
            if name in own:
                yield Problem(f"{prefix}{name}", f"ignored setting: {why}; remove it", own[name])


def _of_resources(prefix: str, given: StageResources) -> Iterator[Problem]:
    for name in (item.name for item in fields(given) if item.name in _AT_LEAST):
        value = getattr(given, name)
        if value is not None and value < _AT_LEAST[name]:
            yield Problem(f"{prefix}{name}", f"must be at least {_AT_LEAST[name]}", value)
    if given.time_limit is not None and not _TIME_LIMIT.fullmatch(given.time_limit):
        reason = 'must be "D-HH:MM:SS", "HH:MM:SS", "MM:SS" or minutes'
        yield Problem(f"{prefix}time_limit", reason, given.time_limit)
    if given.gpus_per_node and given.processes_per_node not in (None, given.gpus_per_node):
        reason = (
            f"there is one process for each of gpus_per_node = {given.gpus_per_node}; remove it"
        )
        yield Problem(f"{prefix}processes_per_node", reason, given.processes_per_node)
    for index, line in enumerate(given.sbatch or ()):
        option = re.split(r"[=\s]", line, maxsplit=1)[0]
        if not line.startswith("-"):
            yield Problem(f"{prefix}sbatch[{index}]", "must be an option such as --exclusive", line)
        elif option in _OWNED:
            reason = f"{option} is set by dlm submit; use the setting of that meaning, or remove it"
            yield Problem(f"{prefix}sbatch[{index}]", reason, line)
