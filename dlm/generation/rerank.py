"""Which of a prompt's candidate answers is given: one score for each, the highest wins."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A decoded canvas."""

    prompt: int
    """Index of the prompt."""
    tokens: list[int]
    """The answer, without the end token."""
    log_probability: float
    """Sum over its tokens of the log-probability that each had when it was last set."""
    length_log_probability: float
    """What the length predictor gave this length; 0 for a length that was not predicted."""


def mean(candidate: Candidate) -> float:
    """Mean log-probability of the tokens (arXiv 2308.12219, section 3.2).

    Blind to the length: a confident answer with a part left out beats a complete one.
    """
    return candidate.log_probability / len(candidate.tokens)


def joint(candidate: Candidate) -> float:
    """log p(length | prompt) + log p(tokens | length, prompt): safe with any beam if the length
    predictor is good."""
    return candidate.length_log_probability + candidate.log_probability


RERANK: dict[str, Callable[[Candidate], float]] = {"mean": mean, "joint": joint}


def best_of_each_prompt(candidates: list[Candidate], rerank: str) -> dict[int, Candidate]:
    """Prompt -> its best candidate; of equals the first, so give the likelier length first."""
    score = RERANK[rerank]
    best: dict[int, Candidate] = {}
    for rival in candidates:
        kept = best.get(rival.prompt)
        if kept is None or score(rival) > score(kept):
            best[rival.prompt] = rival
    return best
