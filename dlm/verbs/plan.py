"""dlm plan: what a recipe's training stages will take, before anything is started."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlm.errors import UserError
from dlm.verbs.run import recipe_of_cell

if TYPE_CHECKING:
    from dlm.planning.stage_plan import Cluster, StagePlan

_DEFAULT_GPU = "h100"


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
    from dlm.training.plan_inputs import TRAINED, KnownRows, stage_inputs

    recipe, _ = recipe_of_cell(options)
    names = [name for name, stage in recipe.stages.items() if stage.kind in TRAINED]
    if options.stage is not None:
        wanted = stage_name(recipe, "--stage", options.stage)
        names = [name for name in names if name == wanted]
    if not names:
        raise UserError("there is no training stage to plan: name one that trains with --stage")
    gpu = gpu_named(options.gpu or _DEFAULT_GPU)
    gib = options.gpu_memory or gpu.memory_gib
    known = KnownRows(options.row_tokens, options.response_share)
    plans = []
    for name in names:
        hardware = recipe.stages[name].hardware
        inputs = stage_inputs(recipe, name, known)
        cluster = Cluster(
            nodes=options.nodes or hardware.num_nodes,
            gpus_per_node=options.gpus_per_node or hardware.devices or 1,
            memory=int(gib * GIB),
            peak_tflops=options.tflops or gpu.peak_tflops(inputs.load.precision),
            mfu=options.mfu,
        )
        plans.append((plan_stage(inputs, cluster), cluster))
    if options.json:
        from dlm.verbs.plan_tables import as_json

        whole = {"recipe": recipe.name, "stages": [as_json(planned) for planned, _ in plans]}
        print(json.dumps(whole, indent=2))
        return 0
    _print(recipe.name, plans, options, gpu.name)
    return 0


def _print(
    recipe: str, plans: "Sequence[tuple[StagePlan, Cluster]]", options: argparse.Namespace, gpu: str
) -> None:
    from dlm.planning.memory import GIB, OVERHEAD
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
        name = f"{options.tflops:g} TFLOP/s" if options.tflops else gpu
        say(
            f"{recipe}, stage {inputs.name} ({inputs.kind}), {inputs.load.precision}, on "
            f"{cluster.nodes} x {cluster.gpus_per_node} GPUs ({name}, {cluster.memory / GIB:g} "
            f"GiB, peak {cluster.peak_tflops:g} TFLOP/s, MFU {cluster.mfu:g})"
        )
        say(f"  {parameters_line(inputs)}")
        say(f"  {rows_line(inputs.rows)}")
        make_console().print(memory_table(planned))
        for line in (layout_line(planned), *choice_lines(planned, cluster.memory), *inputs.notes):
            say(f"  {line}")
        say("")
    say(f"Order: {ORDER}.\nWhy: {REASON}.")
    say(
        f"overhead: {OVERHEAD / GIB:g} GiB set aside for CUDA, NCCL and the allocator. "
        "TOTAL: what is there always, and the larger of (casts + activations + logits) and step. "
        "docs/plan.md has the formulas."
    )


def _check(options: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        UserError: One of them does.
    """
    for name in ("nodes", "gpus_per_node", "gpu_memory", "mfu", "tflops"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name.replace('_', '-')} {value:g}: must be above 0")
    if options.mfu > 1:
        raise UserError(f"--mfu {options.mfu:g}: a share of the peak, from 0 to 1, such as 0.35")
    share = options.response_share
    if share is not None and not 0 < share <= 1:
        raise UserError(f"--response-share {share:g}: a share of a row's tokens, from 0 to 1")
    if options.gpu is not None and options.tflops is not None:
        raise UserError("--gpu and --tflops exclude each other: remove one of them")
