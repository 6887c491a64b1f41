"""Sampling with a network that knows a joint distribution exactly: which law comes out.

Vocabulary 4, length 4, 256 sequences, all probabilities enumerated.
"""

import itertools
from dataclasses import replace
from functools import cache

import pytest
import torch
from exact_joint import FORBIDDEN_IDS, LENGTH, MASK_ID, VOCAB, all_sequences, joint, predict
from statistics_bounds import assert_distributed
from torch import Tensor

from dlm.diffusion.sampling.choice import ScoreName
from dlm.diffusion.sampling.draws import DrawKey
from dlm.diffusion.sampling.loop import denoise
from dlm.diffusion.sampling.rules import FROZEN, LEFT_TO_RIGHT, Rule
from dlm.diffusion.sampling.samplers import Sampler, get_sampler
from dlm.diffusion.sampling.schedule import noise_rate

SAMPLES = 10_000
SEQUENCES = all_sequences()
State = tuple[int, ...]
STATES = torch.tensor(list(itertools.product(range(VOCAB + 1), repeat=LENGTH)))
ANSWERS = predict(STATES)
torch.set_num_threads(1)


def network(tokens_BN: Tensor) -> Tensor:
    """``predict``, looked up."""
    return ANSWERS[(tokens_BN * (VOCAB + 1) ** torch.arange(LENGTH - 1, -1, -1)).sum(dim=1)]


def counts_of(sampler: Sampler, iterations: int, seed: int = 0) -> Tensor:
    """How often each of the 256 sequences is sampled."""
    result = denoise(
        network, torch.ones(SAMPLES, LENGTH, dtype=torch.bool), sampler=sampler,
        num_iterations=iterations, mask_token_id=MASK_ID, forbidden_ids=FORBIDDEN_IDS,
        key=DrawKey(seed, torch.arange(SAMPLES)),
    )  # fmt: skip
    place_N = VOCAB ** torch.arange(LENGTH - 1, -1, -1)
    return torch.bincount((result.tokens_BN * place_N).sum(dim=1), minlength=len(joint))


@cache
def conditionals(state: State) -> list[list[float]]:
    """p(token | visible) at every place of a state."""
    return network(torch.tensor([state]))[0, :, :VOCAB].exp().tolist()


def law_of_ancestral_sampling(iterations: int, schedule: str) -> list[float]:
    """The M-step law, by enumeration of every way each step can go."""
    law = {(MASK_ID,) * LENGTH: 1.0}
    for m in range(1, iterations + 1):
        before, after = (noise_rate(schedule, i, iterations) for i in (m - 1, m))  # type: ignore[arg-type]
        p_set = 1 - after / before
        following: dict[State, float] = {}
        for state, probability in law.items():
            options = [
                [(token, 1.0)]
                if token != MASK_ID
                else [(MASK_ID, 1 - p_set)]
                + [(v, p_set * p) for v, p in enumerate(conditionals(state)[place])]
                for place, token in enumerate(state)
            ]
            for choice in itertools.product(*options):
                weight = probability
                for _, p in choice:
                    weight *= p
                if weight:
                    key = tuple(token for token, _ in choice)
                    following[key] = following.get(key, 0.0) + weight
        law = following
    return [law.get(tuple(row), 0.0) for row in SEQUENCES.tolist()]


def distance(law: list[float]) -> float:
    """Total variation distance from the joint."""
    return 0.5 * sum(abs(a - b) for a, b in zip(law, joint.tolist(), strict=True))


@pytest.mark.parametrize("iterations", [1, 2, 3])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_ancestral_sampling_follows_its_enumerated_law(schedule: str, iterations: int) -> None:
    law = law_of_ancestral_sampling(iterations, schedule)
    assert sum(law) == pytest.approx(1)
    assert_distributed(counts_of(get_sampler(f"ancestral-{schedule}"), iterations), law)


def test_the_law_of_ancestral_sampling_tends_to_the_joint_as_iterations_grow() -> None:
    gaps = [distance(law_of_ancestral_sampling(m, "linear")) for m in (1, 2, 4, 8, 16)]
    assert all(later < 0.7 * earlier for earlier, later in itertools.pairwise(gaps))
    assert gaps[0] > 0.3 and gaps[-1] < 0.06


@pytest.mark.slow
def test_ancestral_sampling_in_many_iterations_gives_the_joint() -> None:
    assert_distributed(counts_of(get_sampler("mdlm"), 400), joint.tolist())


@pytest.mark.parametrize(
    ("rule", "score"),
    [(FROZEN, "random"), (FROZEN, "entropy"), (LEFT_TO_RIGHT, "log_probability")],
    ids=["frozen-random", "frozen-entropy", "left-to-right"],
)
def test_one_token_at_a_time_in_any_order_gives_the_joint(rule: Rule, score: ScoreName) -> None:
    """The order may depend on what is known, but not on the token that is drawn."""
    sampler = Sampler(rule, "", score=score, temperature=1.0)
    assert_distributed(counts_of(sampler, LENGTH), joint.tolist())


def test_blocks_of_one_token_give_the_joint() -> None:
    result = denoise(
        network, torch.ones(SAMPLES, LENGTH, dtype=torch.bool),
        sampler=replace(get_sampler("llada"), temperature=1.0), num_iterations=1,
        mask_token_id=MASK_ID, forbidden_ids=FORBIDDEN_IDS, block_length=1,
        key=DrawKey(0, torch.arange(SAMPLES)),
    )  # fmt: skip
    place_N = VOCAB ** torch.arange(LENGTH - 1, -1, -1)
    counts = torch.bincount((result.tokens_BN * place_N).sum(dim=1), minlength=len(joint))
    assert_distributed(counts, joint.tolist())


def test_a_tight_entropy_bound_with_drawn_tokens_gives_the_joint() -> None:
    sampler = replace(get_sampler("eb"), entropy_bound=0.0, temperature=1.0)
    assert_distributed(counts_of(sampler, LENGTH), joint.tolist())


def test_a_sampler_that_sets_everything_at_once_does_not_give_the_joint() -> None:
    """The tests above can fail: independent tokens are far from this joint."""
    with pytest.raises(AssertionError):
        assert_distributed(counts_of(get_sampler("mdlm"), 1), joint.tolist())
