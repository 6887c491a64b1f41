"""A stage's plan as a person reads it, and as a program does."""

from dataclasses import asdict, replace
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from dlm.planning.activations import saved_activations
from dlm.planning.batches import Rows, batch_shape
from dlm.planning.memory import GIB, Memory
from dlm.planning.precision import bytes_of
from dlm.planning.shapes import BatchShape
from dlm.planning.stage_plan import Cluster, StageInputs, StagePlan, Trial

_PARTS = {
    "weights": "weights", "gradients": "grads", "optimizer": "optim.", "communication": "comm.",
    "casts": "casts", "activations": "activ.", "logits": "logits", "step": "step",
    "overhead": "ovh.",
}  # fmt: skip
"""Part of the memory -> the head of its column."""


def parameters_line(inputs: StageInputs) -> str:
    """Parameters by kind."""
    count = inputs.load.parameters
    line = (
        f"{inputs.model}: {count.total:,} parameters, {count.embedding:,} of them embeddings; "
        f"{count.trainable:,} trained"
    )
    return line + (f", {count.frozen:,} of the backbone frozen" if count.frozen else "")


def rows_line(rows: Rows) -> str:
    """What is taken of the rows."""
    line = (
        f"rows of {rows.mean:g} tokens on average, {rows.longest} at most, "
        f"{rows.response_share:.0%} of them response or text"
    )
    return line + (f", {rows.mean_rate:.0%} of that masked" if rows.mean_rate < 1 else "")


def memory_table(plan: StagePlan, cluster: Cluster) -> Table:
    """A row for every placement."""
    table = Table(
        "", "strategy", "checkp.", "offload", "micro x accum.", *_PARTS.values(), "TOTAL", "CPU",
        title=f"GiB {'of each process' if cluster.cpu else 'on each GPU'}", title_justify="left",
        box=SIMPLE, padding=(0, 1), collapse_padding=True,
    )  # fmt: skip
    for trial in plan.trials:
        mark = "->" if trial == plan.chosen else "fits" if trial.fits else "no"
        share, place, needed = trial.share, trial.placement, trial.memory
        size = f"{share.rows}r" if share.rows is not None else f"{share.tokens}t"
        table.add_row(
            mark, place.strategy, "yes" if place.checkpointing else "no", place.offload,
            f"{size} x {share.accumulate}", *(_gib(getattr(needed, part)) for part in _PARTS),
            _gib(needed.total), _gib(needed.host),
        )  # fmt: skip
    return table


def layout_line(plan: StagePlan) -> str:
    """Activations of the chosen micro-batch in both layouts, with and without checkpointing."""
    inputs = plan.inputs
    trial = plan.chosen or plan.trials[-1]
    if inputs.load.parameters.predictor:
        return "the backbone is frozen and keeps no activations; its layers run one at a time"
    size = bytes_of(inputs.load.precision, trial.placement.strategy)
    parts = []
    for layout, figures in _layouts(inputs, trial).items():
        plain, checkpointed = (
            saved_activations(inputs.load.network, figures, size, checkpointing=on).peak
            for on in (False, True)
        )
        parts.append(f"{layout} {_gib(plain)}, checkpointed {_gib(checkpointed)}")
    return "activations of that micro-batch in GiB: " + "; ".join(parts)


def _layouts(inputs: StageInputs, trial: Trial) -> dict[str, BatchShape]:
    both = {"padded": False, "packed": True}
    return {
        name: batch_shape(
            trial.share, replace(inputs.batch, packed=packed), inputs.rows, inputs.width
        )
        for name, packed in both.items()
    }


def choice_lines(plan: StagePlan, cluster: Cluster) -> list[str]:
    """What to run with, and what it costs."""
    more = "more memory" if cluster.cpu else "more or larger GPUs"
    steps, work = plan.inputs.steps, plan.work
    if plan.chosen is None:
        least = min(trial.memory.total for trial in plan.trials)
        lines = [
            f"nothing fits in {cluster.memory / GIB:g} GiB: the least is {_gib(least)} GiB. Take "
            f"{more}, or shorter rows (data.max_length)"
        ]
    else:
        chosen = plan.chosen
        lines = [
            f"use {chosen.placement.name}: {_overrides(plan.inputs.name, chosen)} "
            f"(accumulates {chosen.share.accumulate})"
        ]
    lines.append(
        f"a step: {plan.tokens_per_step:,.0f} tokens{_copies(plan)}; "
        f"{work.total / 1e15:,.3g} PFLOP, {work.logits / work.total:.0%} of them for logits"
    )
    took = "" if plan.hours is None else f"; expected {plan.hours:,.3g} hours"
    if cluster.peak_tflops is None:
        took = "; hours are not known (`dlm bench` measures a step here, --tflops gives a peak)"
    lines.append(f"{steps:,} steps: {work.total * steps / 1e18:,.3g} EFLOP{took}")
    lines.append(
        f"on disk: a checkpoint {_gib(plan.checkpoint)} GiB, the export {_gib(plan.export)} GiB"
    )
    if not cluster.cpu:
        lines.append(
            f"CPU memory of a node at the start, each process with the whole network in float32: "
            f"{_gib(plan.host_at_start)} GiB"
        )
    return lines


def _overrides(stage: str, trial: Trial) -> str:
    """What to append to ``dlm run``, for this stage alone."""
    settings = trial.placement.settings | trial.share.settings
    return " ".join(f"stages.{stage}.{key}={value}" for key, value in settings.items())


def _copies(plan: StagePlan) -> str:
    if not plan.masked_per_step:
        return ""
    copies = plan.inputs.rows.copies
    noisy = f", {copies} noisy copies of each" if copies > 1 else ""
    return f"{noisy}, logits at {plan.masked_per_step:,.0f} positions"


def as_json(plan: StagePlan, cluster: Cluster) -> dict[str, Any]:
    """Everything, in bytes and FLOPs."""
    chosen = plan.chosen
    return {
        "stage": plan.inputs.name,
        "kind": plan.inputs.kind,
        "device": "cpu" if cluster.cpu else "gpu",
        "device_memory_bytes": cluster.memory,
        "model": plan.inputs.model,
        "parameters": asdict(plan.inputs.load.parameters) | {
            "frozen": plan.inputs.load.parameters.frozen
        },
        "rows": asdict(plan.inputs.rows),
        "trials": [_trial_json(plan.inputs.name, trial) for trial in plan.trials],
        "chosen": _trial_json(plan.inputs.name, chosen) if chosen else None,
        "tokens_per_step": plan.tokens_per_step,
        "masked_per_step": plan.masked_per_step,
        "flops_per_step": plan.work.total,
        "flops": plan.work.total * plan.inputs.steps,
        "hours": plan.hours,
        "checkpoint_bytes": plan.checkpoint,
        "export_bytes": plan.export,
        "host_bytes_at_start": plan.host_at_start,
        "notes": list(plan.inputs.notes),
    }  # fmt: skip


def _trial_json(stage: str, trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.placement.name,
        **asdict(trial.placement),
        "settings": _overrides(stage, trial),
        "micro_batch": asdict(trial.share),
        "memory": _memory_json(trial.memory),
        "fits": trial.fits,
    }


def _memory_json(memory: Memory) -> dict[str, int]:
    return {**asdict(memory), "total": memory.total}


def _gib(size: float) -> str:
    gib = size / GIB
    return "0" if size == 0 else f"{gib:.2f}" if gib < 10 else f"{gib:.1f}"
