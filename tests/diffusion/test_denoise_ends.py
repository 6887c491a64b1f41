"""Rows that end themselves: what a finished block with an end token does to the rest of its row."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from sampler_tools import MASK, HashNetwork, run

from dlm.diffusion.sampling.loop import denoise
from dlm.diffusion.sampling.samplers import SAMPLERS, customised, get_sampler
from dlm.diffusion.sampling.state import Canvas

END, BLOCK = 3, 4
LENGTHS = [16, 16, 12, 16, 8, 16, 20, 16, 4, 16, 20, 12]
ROWS = list(range(len(LENGTHS)))
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def texts_of(result_tokens: torch.Tensor, lengths: list[int]) -> list[list[int]]:
    return [row[:n] for row, n in zip(result_tokens.tolist(), lengths, strict=True)]


@every_sampler
def test_behind_a_block_with_an_end_there_are_ends_and_before_it_what_blocks_alone_give(
    name: str,
) -> None:
    """The reference: all blocks decoded, then cut behind the first block that holds an end."""
    network = HashNetwork(ROWS, LENGTHS)
    # More iterations than a block has slots: samplers that stop early do.
    full = run(name, network, 6, block_length=BLOCK)
    ended = run(name, HashNetwork(ROWS, LENGTHS), 6, block_length=BLOCK, end_token_id=END)
    early = 0
    for row, length in enumerate(LENGTHS):
        expected = full.tokens_BN[row, :length].tolist()
        log_p = full.log_probability_BN[row, :length].tolist()
        if END in expected:
            stop = (expected.index(END) // BLOCK + 1) * BLOCK
            early += stop < length
            expected = expected[:stop] + [END] * (length - stop)
            log_p = log_p[:stop] + [0.0] * (length - stop)
        assert ended.tokens_BN[row, :length].tolist() == expected
        assert ended.log_probability_BN[row, :length].tolist() == pytest.approx(log_p, abs=1e-5)
    assert 2 < early < len(ROWS), "the example should have rows of both kinds"


@every_sampler
def test_a_row_that_ends_does_not_depend_on_its_neighbours_or_on_the_side_of_padding(
    name: str,
) -> None:
    options: dict[str, Any] = {"block_length": BLOCK, "end_token_id": END}
    together = run(name, HashNetwork(ROWS, LENGTHS), 3, **options)
    expected = texts_of(together.tokens_BN, LENGTHS)
    for row, length in zip(ROWS, LENGTHS, strict=True):
        alone = run(name, HashNetwork([row], [length]), 3, **options)
        assert alone.tokens_BN[0].tolist() == expected[row]
    left = run(name, HashNetwork(ROWS, LENGTHS, left=True), 3, **options)
    assert texts_of(left.tokens_BN.flip(1), LENGTHS) == [row[::-1] for row in expected]


def test_blocks_behind_the_end_of_every_row_cost_no_calls() -> None:
    lengths = [20, 20, 20]
    logits = torch.zeros(3, 20, 6).index_fill(-1, torch.tensor([END]), 5.0)
    logits[1, :4, END] = -5.0  # the second row ends in its second block

    def decode(end_token_id: int | None) -> tuple[int, torch.Tensor, bool]:
        result = denoise(
            lambda _: logits, torch.ones(len(lengths), 20, dtype=torch.bool),
            sampler=get_sampler("llada"), num_iterations=2, mask_token_id=MASK,
            forbidden_ids=torch.tensor([MASK]), block_length=BLOCK, end_token_id=end_token_id,
        )  # fmt: skip
        tokens = result.tokens_BN
        return result.num_network_calls, tokens, bool((tokens == MASK).any())

    calls, tokens, masks = decode(END)
    assert (calls, masks) == (4, False)
    assert decode(None)[0] == 10
    assert torch.equal(tokens, decode(None)[1])


def test_a_row_of_an_early_stopping_sampler_is_filled_when_it_is_done_not_when_its_batch_is() -> (
    None
):
    """What is shown of a row must not tell how long the others took."""

    def frames(rows: list[int], lengths: list[int]) -> list[list[int]]:
        seen: list[list[int]] = []

        def observe(_: int, canvas: Canvas) -> None:
            tokens = canvas.tokens_BN[0, :16].tolist()
            if not seen or seen[-1] != tokens:
                seen.append(tokens)

        sampler = customised("fast-dllm", threshold=0.4)
        run(sampler, HashNetwork(rows, lengths), 6, observe, block_length=BLOCK, end_token_id=END)
        return seen

    for row in range(6):
        others = [other for other in range(6) if other != row]
        assert frames([row], [16]) == frames([row, *others], [16] * 6)


def test_without_blocks_an_end_stops_nothing() -> None:
    network, other = HashNetwork(ROWS, LENGTHS), HashNetwork(ROWS, LENGTHS)
    plain, ending = run("llada", network, 5), run("llada", other, 5, end_token_id=END)
    assert torch.equal(plain.tokens_BN, ending.tokens_BN)
    assert plain.num_network_calls == ending.num_network_calls == 5


@pytest.mark.parametrize(
    "name", ["llada", "rdm", "mask-predict", "reparam-cond-stochastic0.5-linear"]
)
def test_end_last_sets_what_would_be_an_end_behind_everything_else(name: str) -> None:
    """Slots 0 and 1 would take token 5, less sure than the ends of slots 2 and 3."""
    logits = torch.zeros(1, 4, 7)
    logits[0, :2, 5], logits[0, 2:, END] = 2.0, 9.0

    def first_set(end_last: bool) -> set[int]:
        shown: list[Canvas] = []
        denoise(
            lambda _: logits, torch.ones(1, 4, dtype=torch.bool),
            sampler=replace(get_sampler(name), end_last=end_last, routing_noise=0.0),
            num_iterations=4, mask_token_id=MASK, forbidden_ids=torch.tensor([MASK]),
            end_token_id=END, observe=lambda _, canvas: shown.append(canvas),
        )  # fmt: skip
        assert shown[-1].tokens_BN.tolist() == [[5, 5, END, END]]
        partial = next(c for c in shown if not c.noise_BN.all())
        return set((~partial.noise_BN[0]).nonzero()[:, 0].tolist())

    assert first_set(False) <= {2, 3} and first_set(True) <= {0, 1}


def test_end_last_is_refused_where_it_would_do_nothing() -> None:
    with pytest.raises(ValueError, match="end_last is not read by sampler 'fast-dllm'"):
        customised("fast-dllm", end_last=True)
    assert not customised("mdlm", end_last=False).end_last
    sampler = customised("llada", end_last=True)
    with pytest.raises(ValueError, match="end_last is read where answers end themselves"):
        run(sampler, HashNetwork([0], [4]), 2)
