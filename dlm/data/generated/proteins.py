"""Protein-like sequences with a hairpin: two strands that face each other around a turn.

No real proteins: residues outside the hairpin are drawn at random. An *item* is the first strand.
The second one is its partner, written backwards: each residue faces the one that it pairs with in
:data:`PARTNER`. A hash of the first strand decides its split.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache

from dlm.data.generated.draws import Generator, Request, Row, Space, Split, split_of_key

PARTNER = dict(zip("KRVLWTNCAHEDIFYSQMGP", "EDIFYSQMGPKRVLWTNCAH", strict=True))
"""Residue -> the one that faces it; all twenty."""
GAP = "_"
_TURNS = ("NG", "DG", "PG", "GN")
_STRANDS = 60_000
"""Before the few that are drawn twice are left out."""
_FLANK = (2, 10)
"""Least and most residues before the first strand, and behind the second."""


def partner_of(strand: str) -> str:
    """The strand that faces another one, in the order of the chain: backwards."""
    return "".join(PARTNER[residue] for residue in reversed(strand))


@cache
def _strands(split: Split) -> tuple[str, ...]:
    rng = random.Random("strands")
    every = dict.fromkeys(_residues(rng, rng.randint(5, 7)) for _ in range(_STRANDS))
    return tuple(strand for strand in every if split_of_key(f"strand:{strand}") == split)


def _residues(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(sorted(PARTNER), k=count))


def _hairpin_gaps(request: Request) -> list[Space]:
    strands = _strands(request.split)

    def row(index: int) -> Row:
        rng = request.rng(f"hairpin/{index}")
        strand = strands[index]
        before, after = (_residues(rng, rng.randint(*_FLANK)) for _ in range(2))
        rest = rng.choice(_TURNS) + partner_of(strand) + after
        return {
            "text": before + strand + rest,
            "inputs": before + GAP * len(strand) + rest,
            "targets": strand,
        }

    return [Space(len(strands), row, request.rng("hairpins"))]


PROTEINS: Mapping[str, Generator] = {
    "hairpin_gaps": Generator(
        "A protein-like sequence with a hairpin whose first strand is missing, and that strand "
        "(text: the whole sequence, inputs, targets).",
        {},
        _hairpin_gaps,
    ),
}
