"""A verb whose work several processes may share."""

from collections.abc import Iterator
from contextlib import contextmanager

from dlm.distributed.joining import joined
from dlm.distributed.share import ALONE, Share
from dlm.errors import UserError
from dlm.recipe.ranks import found_launcher


@contextmanager
def sharing(devices: int | None) -> Iterator[Share]:
    """The ranks that a launcher has started, or ``--devices`` of them.

    Raises:
        UserError: The two contradict each other.
    """
    started = found_launcher()
    if started is not None and devices not in (None, started.devices):
        raise UserError(
            f"--devices {devices} where {started.name} has started {started.devices} ranks on each "
            "node: remove it"
        )
    per_node, num_nodes = (started.devices, started.num_nodes) if started else (devices or 1, 1)
    if per_node * num_nodes == 1:
        yield ALONE
        return
    from dlm.training.quiet import quiet_libraries

    quiet_libraries()
    with joined(per_node, num_nodes, gpus=False) as share:
        yield share
