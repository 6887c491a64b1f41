"""ROUGE (Lin 2004) by the package rouge-score, of its default tokens: [a-z0-9]+, no stemming."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any


@cache
def _scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # nltk: not for a run without summaries

    return RougeScorer([kind])


def rouge(kind: str) -> Callable[[str, str], float]:
    """F1 of a hypothesis and a reference, 0 to 1. Writing other than Latin has no tokens: 0."""
    return lambda hypothesis, reference: float(
        _scorer(kind).score(reference, hypothesis)[kind].fmeasure
    )


def rouge_signature(kind: str) -> str:
    """What the score depends on."""
    return f"{kind} F1|stem:no|tok:a-z0-9|mean over rows|rouge-score {version('rouge-score')}"
