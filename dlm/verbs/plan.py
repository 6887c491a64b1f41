"""dlm plan: what a recipe's training stages will take, before anything is started."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlm.errors import UserError
from dlm.verbs.run import recipe_of_cell

if TYPE_CHECKING:
    from dlm.planning.stage_plan import Cluster, StagePlan

_DEFAULT_GPU = "h100"
_OF_GPUS = ("gpu", "gpu_memory", "gpus_per_node")
"""Options that ask what a stage would take on GPUs, whatever the recipe says."""


def plan(options: argparse.Namespace) -> int:
    """Print the plan of every training stage, or of one.

    Raises:
        UserError: The recipe, an option or a batch does not fit; nothing else was printed.
    """
    _check(options)
    from dlm.planning.gpus import gpu_named
    from dlm.planning.memory import GIB
    from dlm.planning.stage_plan import Cluster, plan_stage
    from dlm.recipe.selection import stage_name
    from dlm.verbs.plan_inputs import TRAINED, KnownRows, stage_inputs

    recipe, _ = recipe_of_cell(options)
    names = [name for name, stage in recipe.stages.items() if stage.kind in TRAINED]
    if options.stage is not None:
        wanted = stage_name(recipe, "--stage", options.stage)
        names = [name for name in names if name == wanted]
    if not names:
        raise UserError("there is no training stage to plan: name one that trains with --stage")
    gpu = gpu_named(options.gpu or _DEFAULT_GPU)
    asked = [name for name in _OF_GPUS if getattr(options, name) is not None]
    on_cpu = {
        name: recipe.stages[name].hardware.accelerator == "cpu" and not asked for name in names
    }
    if options.host_memory is not None and not any(on_cpu.values()):
        raise UserError(
            "--host-memory would be ignored: no stage is planned on a CPU (hardware.accelerator, "
            "and no option about GPUs); remove it"
        )
    known = KnownRows(options.row_tokens, options.response_share)
    plans = []
    for name in names:
        hardware = recipe.stages[name].hardware
        inputs = stage_inputs(recipe, name, known)
        per_node = options.gpus_per_node or hardware.devices or 1
        if on_cpu[name]:
            # The processes of a node share its memory.
            memory = (int((options.host_memory or 0) * GIB) or host_memory()) // per_node
            peak = options.tflops
        else:
            memory = int((options.gpu_memory or gpu.memory_gib) * GIB)
            peak = options.tflops or gpu.peak_tflops(inputs.load.precision)
        cluster = Cluster(
            nodes=options.nodes or hardware.num_nodes, gpus_per_node=per_node, memory=memory,
            peak_tflops=peak, mfu=options.mfu, cpu=on_cpu[name],
        )  # fmt: skip
        plans.append((plan_stage(inputs, cluster), cluster))
    if options.json:
        from dlm.verbs.plan_tables import as_json

        whole = {
            "recipe": recipe.name,
            "stages": [as_json(planned, cluster) for planned, cluster in plans],
        }
        print(json.dumps(whole, indent=2))
        return 0
    _print(recipe.name, plans, options, gpu.name)
    return 0


def host_memory() -> int:
    """Bytes of this machine's memory, or of what the container may use of it."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no control groups, or "max"
        return whole
    return min(whole, limit)


def _print(
    recipe: str, plans: "Sequence[tuple[StagePlan, Cluster]]", options: argparse.Namespace, gpu: str
) -> None:
    from dlm.planning.memory import CPU_OVERHEAD, GIB, OVERHEAD
    from dlm.planning.strategies import ORDER, REASON
    from dlm.recipe.console import make_console, say
    from dlm.verbs.plan_tables import (
        choice_lines,
        layout_line,
        memory_table,
        parameters_line,
        rows_line,
    )

    for planned, cluster in plans:
        inputs = planned.inputs
        say(
            f"{recipe}, stage {inputs.name} ({inputs.kind}), {inputs.load.precision}, on "
            f"{_device_text(cluster, options, gpu)}"
        )
        say(f"  {parameters_line(inputs)}")
        say(f"  {rows_line(inputs.rows)}")
        make_console().print(memory_table(planned, cluster))
        for line in (layout_line(planned), *choice_lines(planned, cluster), *inputs.notes):
            say(f"  {line}")
        say("")
    say(f"Order: {ORDER}.\nWhy: {REASON}.")
    aside = {
        f"{OVERHEAD / GIB:g} GiB set aside for CUDA, NCCL and the allocator": False,
        f"{CPU_OVERHEAD / GIB:g} GiB of a process on a CPU for Python and its libraries": True,
    }
    planned_on = {cluster.cpu for _, cluster in plans}
    say(
        f"overhead: {'; '.join(text for text, cpu in aside.items() if cpu in planned_on)}. "
        "TOTAL: what is there always, and the larger of (casts + activations + logits) and step. "
        "docs/plan.md has the formulas."
    )


def _device_text(cluster: "Cluster", options: argparse.Namespace, gpu: str) -> str:
    """What a stage is planned on."""
    from dlm.planning.memory import GIB

    count, gib = f"{cluster.nodes} x {cluster.gpus_per_node}", f"{cluster.memory / GIB:.3g} GiB"
    speed = "" if cluster.peak_tflops is None else (
        f", peak {cluster.peak_tflops:g} TFLOP/s, MFU {cluster.mfu:g}"
    )  # fmt: skip
    if cluster.cpu:
        return f"a CPU: {count} processes ({gib} each of the host's memory{speed})"
    name = f"{options.tflops:g} TFLOP/s" if options.tflops else gpu
    return f"{count} GPUs ({name}, {gib}{speed})"


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        UserError: They do.
    """
    if options.gpu is not None and options.tflops is not None:
        raise UserError("--gpu and --tflops exclude each other: remove one of them")
