"""The plan of one training stage: every placement tried, the first that fits, work and disk."""

from dataclasses import dataclass

from dlm.planning.batches import (
    ENOUGH_TOKENS,
    GlobalBatch,
    Rows,
    Share,
    batch_shape,
    shares,
)
from dlm.planning.flops import Work, hours, predictor_work, training_work
from dlm.planning.memory import (
    CPU_OVERHEAD,
    OVERHEAD,
    Load,
    Memory,
    checkpoint_bytes,
    export_bytes,
    host_at_start,
    memory,
)
from dlm.planning.shapes import BatchShape
from dlm.planning.strategies import Placement, placements


@dataclass(frozen=True)
class Cluster:
    """The GPUs, or the processes on CPUs, that a plan is for."""

    nodes: int
    gpus_per_node: int
    memory: int
    """Bytes of one GPU; of a CPU's memory, each process's part."""
    peak_tflops: float | None
    """None: not known, and no hours are told."""
    mfu: float
    cpu: bool = False
    """Processes on CPUs."""

    @property
    def gpus(self) -> int:
        """Over all nodes."""
        return self.nodes * self.gpus_per_node


@dataclass(frozen=True)
class StageInputs:
    """A training stage, as far as its costs go."""

    name: str
    kind: str
    model: str
    """The network in a word, for people."""
    load: Load
    rows: Rows
    batch: GlobalBatch
    width: int
    """Longest row of the network."""
    steps: int
    micro_rows: int | None = None
    micro_tokens: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One placement at the micro-batch that it would use."""

    placement: Placement
    share: Share
    shape: BatchShape
    memory: Memory
    fits: bool


@dataclass(frozen=True)
class StagePlan:
    """What a stage takes."""

    inputs: StageInputs
    trials: tuple[Trial, ...]
    chosen: Trial | None
    """The first that fits, in the order of ``placements``; None: none does."""
    tokens_per_step: float
    """Real tokens of one copy."""
    masked_per_step: float
    work: Work
    hours: float | None
    checkpoint: int
    export: int
    host_at_start: int
    """CPU memory that a node needs before training begins."""


def plan_stage(inputs: StageInputs, cluster: Cluster) -> StagePlan:
    """Try every placement.

    Raises:
        UserError: The global batch cannot be shared by this many GPUs.
    """
    ways = shares(
        inputs.batch, inputs.rows, cluster.gpus,
        micro_rows=inputs.micro_rows, micro_tokens=inputs.micro_tokens,
    )  # fmt: skip
    frozen = inputs.load.parameters.predictor > 0
    tried = placements(cluster.gpus, frozen=frozen, offload=not cluster.cpu)
    trials = tuple(_trial(inputs, place, ways, cluster) for place in tried)
    fitting = [trial for trial in trials if trial.fits]
    # First those whose micro-batches keep a GPU busy.
    busy = [trial for trial in fitting if _busy(trial.share, inputs, ways)]
    chosen = next(iter(busy or fitting), None)
    tokens = inputs.batch.tokens_per_step(inputs.rows)
    masked = tokens * inputs.rows.response_share * inputs.rows.mean_rate * inputs.rows.copies
    work = _work(inputs, tokens, masked)
    return StagePlan(
        inputs=inputs,
        trials=trials,
        chosen=chosen,
        tokens_per_step=tokens,
        masked_per_step=0.0 if inputs.load.parameters.predictor else masked,
        work=work,
        hours=None if chosen is None or cluster.peak_tflops is None else hours(
            work, inputs.steps, gpus=cluster.gpus, peak_tflops=cluster.peak_tflops,
            mfu=cluster.mfu, checkpointing=chosen.placement.checkpointing,
        ),
        checkpoint=checkpoint_bytes(inputs.load.parameters),
        export=export_bytes(inputs.load.parameters),
        host_at_start=host_at_start(inputs.load.parameters, cluster.gpus_per_node),
    )  # fmt: skip


def _trial(inputs: StageInputs, place: Placement, ways: list[Share], cluster: Cluster) -> Trial:
    """The largest micro-batch that fits, else the smallest."""
    for share in ways:
        shape = batch_shape(share, inputs.batch, inputs.rows, inputs.width)
        overhead = CPU_OVERHEAD if cluster.cpu else OVERHEAD
        needed = memory(inputs.load, shape, place, cluster.gpus, overhead=overhead)
        if needed.total <= cluster.memory:
            return Trial(place, share, shape, needed, True)
    return Trial(place, share, shape, needed, False)


def _busy(share: Share, inputs: StageInputs, ways: list[Share]) -> bool:
    """Whether a micro-batch is large enough, or as large as it can be."""
    tokens = share.tokens or (share.rows or 0) * inputs.rows.mean
    return share == ways[0] or tokens * inputs.rows.copies >= ENOUGH_TOKENS


def _work(inputs: StageInputs, tokens: float, masked: float) -> Work:
    network, parameters, rows = inputs.load.network, inputs.load.parameters, inputs.rows
    if parameters.predictor:
        prompt = 1 - rows.response_share
        return predictor_work(
            body=parameters.body, layers=network.layers, hidden=network.hidden,
            predictor=parameters.predictor, tokens=tokens * prompt, length=rows.mean * prompt,
        )  # fmt: skip
    return training_work(
        body=parameters.body, layers=network.layers, hidden=network.hidden,
        vocabulary=network.vocabulary, tokens=tokens * rows.copies, length=rows.mean,
        masked=masked,
    )  # fmt: skip
