"""Which process of a distributed job this one is."""

import os

_RANKS = ("SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")


def process_rank() -> int:
    """Rank in a distributed job; 0 outside of one. Only whether it is 0 is relied on."""
    names = ("RANK",) if "RANK" in os.environ else _RANKS
    return max(int(os.environ.get(name) or 0) for name in names)
