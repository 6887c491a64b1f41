"""Memory of one GPU, part by part, for one placement and one micro-batch; and what is written."""

from dataclasses import dataclass

from dlm.planning.activations import SavedActivations, logit_bytes, saved_activations
from dlm.planning.parameters import Parameters
from dlm.planning.precision import MOMENTS, Bytes, Precision, bytes_of
from dlm.planning.shapes import BatchShape, NetworkShape
from dlm.planning.strategies import Placement

GIB = 1 << 30
OVERHEAD = 2 * GIB
"""Set aside, not computed: the CUDA context and kernels (about 0.5 GiB), NCCL's and cuBLAS's
buffers, and what the caching allocator cannot reuse."""
CPU_OVERHEAD = 1 * GIB
"""The same of a process on a CPU: Python, its libraries and a batch (about 0.7 GiB)."""
BUCKET = 200_000_000
"""Elements of DeepSpeed's reduce and all-gather buckets, as Lightning sets them."""
LIVE = 1_000_000_000
"""Elements that ZeRO-3 keeps gathered at most (stage3_max_live_parameters)."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, and on its node's CPU."""

    weights: int
    gradients: int
    optimizer: int
    communication: int
    casts: int
    """Half-precision copies of float32 weights under autocast."""
    activations: int
    """At the peak of the backward pass, without the logits."""
    logits: int
    step: int
    """Held only while the optimizer steps, when activations and logits are gone."""
    overhead: int
    saved: int
    """Of the activations, those held from the forward pass on."""
    host: int
    """CPU memory of this GPU's share of what is offloaded."""

    @property
    def always(self) -> int:
        """What is there all the time."""
        return (
            self.weights + self.gradients + self.optimizer + self.communication + self.overhead
        )  # fmt: skip

    @property
    def total(self) -> int:
        """At the peak. Logits are gone when checkpointed layers are computed again."""
        recomputed = self.activations - self.saved
        passing = self.casts + self.saved + max(self.logits, recomputed)
        return self.always + max(passing, self.step)


@dataclass(frozen=True)
class Load:
    """What a stage trains, and in what precision."""

    parameters: Parameters
    network: NetworkShape
    precision: Precision
    label_smoothing: bool = False


def memory(
    load: Load, batch: BatchShape, placement: Placement, gpus: int, *, overhead: int = OVERHEAD
) -> Memory:
    """Everything but activations and logits follows the DeepSpeed paper (arXiv 1910.02054)."""
    size = bytes_of(load.precision, placement.strategy)
    parameters, zero = load.parameters, placement.strategy.startswith("zero")
    stage = int(placement.strategy[-1]) if zero else 0
    trained, offload = parameters.trainable, placement.offload
    share = -(-trained // gpus)
    weights = size.weight * (-(-parameters.total // gpus) if stage == 3 else parameters.total)
    gradients = size.gradient * (share if stage >= 2 else trained)
    optimizer = size.optimizer * (share if zero else trained)
    host = 0
    if offload != "none":
        # The states, and float32 gradients for them; half-precision gradients pass through.
        host, optimizer, gradients = (size.optimizer + 4) * share, 0, 0
    if offload == "parameters":
        host, weights = host + weights, 0
    activations, logits = _pass(load, batch, placement, size)
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        communication=_communication(parameters, size, stage, ddp=placement.strategy == "ddp"),
        # Frozen weights are copied again at each use, and the copy let go.
        casts=size.compute * (parameters.predictor or parameters.linear) * size.autocast,
        activations=activations.peak,
        logits=logits,
        # The square roots that torch's AdamW makes; ZeRO makes float32 gradients of its share too.
        step=0 if offload != "none" else (8 * share if zero else 4 * trained),
        overhead=overhead,
        saved=activations.saved,
        host=host,
    )


def host_at_start(parameters: Parameters, gpus_per_node: int) -> int:
    """CPU memory of a node, where each process reads the float32 weights before they are cut."""
    return 4 * parameters.total * gpus_per_node


def _communication(parameters: Parameters, size: Bytes, stage: int, *, ddp: bool) -> int:
    if ddp:
        return size.gradient * parameters.trainable  # its buckets are a copy of the gradients
    if stage == 0:
        return 0
    bucket = min(BUCKET, parameters.trainable)
    reducing = 2 * size.gradient * bucket  # one is filled while the other is sent
    if stage < 3:
        return reducing + size.weight * bucket
    gathered = min(parameters.total, max(LIVE, parameters.largest))
    largest = min(parameters.largest, parameters.trainable)
    return reducing + size.weight * gathered + size.gradient * largest


def _pass(
    load: Load, batch: BatchShape, placement: Placement, size: Bytes
) -> tuple[SavedActivations, int]:
    network, parameters = load.network, load.parameters
    if not parameters.predictor:
        saved = saved_activations(network, batch, size, checkpointing=placement.checkpointing)
        logits = logit_bytes(batch.masked, network.vocabulary, label_smoothing=load.label_smoothing)
        return saved, logits
    # A length stage: the backbone's layers one at a time, without gradients, then one layer with.
    below = saved_activations(network, batch, size, checkpointing=True)
    head = saved_activations(_predictor(network), batch, size)
    return SavedActivations(head.layers, below.recomputed, head.others), 0


def _predictor(network: NetworkShape) -> NetworkShape:
    return NetworkShape("xlm-roberta-xl", 1, network.hidden, 4 * network.hidden, 4, 0)


def checkpoint_bytes(parameters: Parameters) -> int:
    """One checkpoint, over all ranks' files: float32 weights and moments of what is trained,
    whatever the strategy. (A length stage saves its predictor alone.)"""
    return (4 + MOMENTS) * parameters.trainable


def export_bytes(parameters: Parameters) -> int:
    """The weights in float32, those that are shared once."""
    return 4 * parameters.total
