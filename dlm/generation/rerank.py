"""Which of a prompt's candidate answers is given: one score for each, the highest wins."""

from collections.abc import Callable
from dataclasses import dataclass

from sacrebleu.metrics.chrf import CHRF

from dlm.generation.settings import Rerank


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


def minimum_bayes_risk(texts: list[str]) -> list[float]:
    """Each candidate's mean sentence chrF with the others as references (Kumar and Byrne 2004):
    the candidate that the others agree with most is the safest. A lone one has 100."""
    chrf = CHRF()
    return [
        _mean_of(
            [chrf.sentence_score(text, [other]).score for j, other in enumerate(texts) if j != i]
        )
        for i, text in enumerate(texts)
    ]


def _mean_of(values: list[float]) -> float:
    """Their mean; 100, full agreement, if there are none."""
    return sum(values) / len(values) if values else 100.0


_OF_ITS_OWN: dict[str, Callable[[Candidate], float]] = {"mean": mean, "joint": joint}


def best_of_each_prompt(
    candidates: list[Candidate], rerank: Rerank, decode: Callable[[list[list[int]]], list[str]]
) -> dict[int, tuple[Candidate, float]]:
    """Prompt -> its best candidate and that one's score.

    Of equals the first is kept, so give the likelier length first. ``decode`` turns tokens into
    texts, which ``mbr`` compares.
    """
    groups: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.prompt, []).append(candidate)
    best = {}
    for prompt, rivals in groups.items():
        if rerank == "mbr":
            scores = minimum_bayes_risk(decode([rival.tokens for rival in rivals]))
        else:
            scores = [_OF_ITS_OWN[rerank](rival) for rival in rivals]
        place = max(range(len(rivals)), key=scores.__getitem__)
        best[prompt] = rivals[place], scores[place]
    return best
