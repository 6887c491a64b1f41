"""Rows that draw: what is drawn is a function of seed, row, iteration and slot, nothing else."""

from dataclasses import replace

import pytest
from sampler_tools import HashNetwork, one_row, run, variants

from dlm.diffusion.sampling.samplers import Sampler, get_sampler

DRAWN = {
    name: sampler for name, sampler in variants().items()
    if sampler.draws and not sampler.rule.stops_early
}  # fmt: skip


@pytest.mark.parametrize(
    "sampler",
    [replace(get_sampler("fast-dllm"), threshold=0.4, temperature=1.0),
     replace(get_sampler("eb"), entropy_bound=2.0, temperature=1.0)],
    ids=["threshold", "entropy bound"],
)  # fmt: skip
def test_a_row_that_stops_early_in_blocks_draws_what_it_draws_alone(sampler: Sampler) -> None:
    """How many iterations a block took depends on the slowest row of the batch."""
    rows, lengths = list(range(12)), [16] * 12
    together = run(sampler, HashNetwork(rows, lengths), 6, block_length=4)
    for row in rows:
        alone = run(sampler, HashNetwork([row], [16]), 6, block_length=4)
        assert alone.tokens_BN[0].tolist() == together.tokens_BN[row].tolist()


@pytest.mark.parametrize("name", DRAWN)
def test_tokens_are_drawn_anew_in_an_iteration_that_finds_the_canvas_as_it_was(name: str) -> None:
    """Three slots and eight iterations: most of these set nothing."""
    for row in range(8):
        result = run(DRAWN[name], HashNetwork([row], [3]), 8)
        tokens, log_p, _ = one_row(DRAWN[name], HashNetwork([row], [3]), 8)
        assert result.tokens_BN[0].tolist() == tokens
        assert result.log_probability_BN[0].tolist() == pytest.approx(log_p, abs=1e-5)
