"""From the plan of a run to the jobs of a cluster: one a stage, with what it waits for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dlm.cluster.settings import ClusterConfig, StageResources
from dlm.config.schema import SECTIONS_OF_KIND, RecipeConfig
from dlm.errors import UserError, did_you_mean
from dlm.recipe.plan import PlannedStage
from dlm.recipe.ranks import LEADER_ALONE

SLURM_FOLDER = "slurm"
"""Scripts, logs and the frozen recipe, inside the run directory."""


@dataclass(frozen=True)
class ClusterJob:
    """One stage as a job of a cluster."""

    stage: str
    directory: str
    """Name of the stage's directory, NN_stage."""
    needs: tuple[str, ...]
    """Stages whose jobs must end well before this one starts."""
    resources: StageResources
    """Nothing of nodes, gpus_per_node and processes_per_node is left open."""
    overrides: tuple[str, ...]
    """What tells ``dlm run`` the shape of the allocation."""
    cells: tuple[str, ...] = ()
    """Cells of a sweep in which the stage is to be done; empty for an ordinary run."""

    @property
    def nodes(self) -> int:
        return self.resources.nodes or 1

    @property
    def gpus(self) -> int:
        """GPUs of each node."""
        return self.resources.gpus_per_node or 0

    @property
    def processes(self) -> int:
        """Processes on each node."""
        return self.resources.processes_per_node or 1


@dataclass(frozen=True)
class Submission:
    """Everything that the jobs of one ``dlm submit`` have in common."""

    recipe: str
    """Name of the recipe."""
    run_dir: Path
    """Absolute. Each cell has its own run directory inside, called as the cell is."""
    working_directory: Path
    """Where relative paths of the recipe begin."""
    cluster: ClusterConfig
    jobs: tuple[ClusterJob, ...]
    cells: tuple[str, ...] = ()
    """All cells of the sweep, also those that have nothing left to do."""

    def recipe_file(self, cell: str = "") -> Path:
        """The recipe as it was submitted: later edits of its file do not reach the jobs."""
        name = f"recipe-{cell}.yaml" if cell else "recipe.yaml"
        return self.run_dir / SLURM_FOLDER / name


def check_stage_names(recipe: RecipeConfig, cluster: ClusterConfig) -> None:
    """Refuse settings of a stage that is neither in the recipe nor a kind.

    Raises:
        UserError: There are some.
    """
    choices = [*recipe.stages, *SECTIONS_OF_KIND]
    lines = [
        f"  stages.{name}: recipe {recipe.name} has no such stage, and there is no such kind"
        f"{did_you_mean(name, choices)}"
        for name in cluster.stages
        if name not in choices
    ]
    if lines:
        raise UserError("\n".join(["the cluster file does not fit the recipe:", *lines]))


def cluster_job(planned: PlannedStage, cluster: ClusterConfig) -> ClusterJob:
    """The job of one stage that the plan runs or resumes.

    Raises:
        UserError: The cluster file gives a stage more processes than it can use, or GPUs that the
            recipe has it leave alone.
    """
    name, kind = planned.job.name, planned.job.config.kind
    resources = _resources(name, kind, cluster)
    if planned.job.config.hardware.accelerator == "cpu" and resources.gpus_per_node:
        raise UserError(
            f"stage {name} is for CPUs (hardware.accelerator=cpu), and the cluster file gives it "
            f"{resources.nodes} x {resources.gpus_per_node} GPUs: take a cluster file without GPUs "
            "(gpus_per_node: 0 in this one), or hardware.accelerator=auto"
        )
    key = f"stages.{name}.hardware"
    processes = resources.processes_per_node or 1
    overrides: tuple[str, ...] = (
        f"{key}.num_nodes={resources.nodes}",
        f"{key}.devices={processes}",
        f"{key}.accelerator={'gpu' if resources.gpus_per_node else 'cpu'}",
    )
    if kind == "tokenizer":
        overrides = ()
    return ClusterJob(
        name, planned.job.directory.name, tuple(planned.job.exports), resources, overrides
    )


def merged_jobs(of_cells: Mapping[str, Sequence[ClusterJob]]) -> tuple[ClusterJob, ...]:
    """One job a stage for all cells, with the cells that still need it; after all that any of them
    waits for."""
    jobs: dict[str, ClusterJob] = {}
    for cell, own in of_cells.items():
        for job in own:
            known = jobs.get(job.stage, job)
            needs = tuple(dict.fromkeys((*known.needs, *job.needs)))
            jobs[job.stage] = replace(known, needs=needs, cells=(*known.cells, cell))
    return tuple(sorted(jobs.values(), key=lambda job: job.directory))


def _resources(name: str, kind: str, cluster: ClusterConfig) -> StageResources:
    layers = [cluster.stages.get(kind), cluster.stages.get(name)]
    own = [layer for layer in layers if layer is not None]
    chosen = {item.name: getattr(cluster, item.name) for item in fields(StageResources)}
    if kind in LEADER_ALONE:
        # One process carries it out, and only what uses a network needs a GPU.
        gpus = min(1, chosen["gpus_per_node"] or 0) if kind != "tokenizer" else 0
        chosen |= {"nodes": 1, "gpus_per_node": gpus, "processes_per_node": 1}
    for layer in own:
        given = {f.name: getattr(layer, f.name) for f in fields(StageResources)}
        chosen |= {key: value for key, value in given.items() if value is not None}
    chosen["nodes"] = chosen["nodes"] or 1
    chosen["gpus_per_node"] = chosen["gpus_per_node"] or 0
    chosen["processes_per_node"] = chosen["gpus_per_node"] or chosen["processes_per_node"] or 1
    shape = chosen["nodes"] * chosen["processes_per_node"]
    if kind in LEADER_ALONE and shape > 1:
        raise UserError(
            f"the cluster file gives stage {name} {chosen['nodes']} nodes x "
            f"{chosen['processes_per_node']} processes, but one process carries out stages of kind "
            f"{kind}: set stages.{name} to {{nodes: 1, gpus_per_node: "
            f"{min(1, chosen['gpus_per_node'])}}}"
        )
    return StageResources(**chosen)
