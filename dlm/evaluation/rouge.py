"""ROUGE (Lin 2004) by the package rouge-score, without stemming.

On words of any script, or on the package's own tokens: [a-z0-9]+, in which "für" is "fär" and a
Greek text is empty.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

from dlm.evaluation.words import words


class _Words:
    """What rouge-score asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@cache
def _scorer(kind: str, ascii_only: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # nltk: not for a run without summaries

    return RougeScorer([kind], tokenizer=None if ascii_only else _Words())


def rouge(kind: str, *, ascii_only: bool = False) -> Callable[[str, str], float]:
    """F1 of a hypothesis and a reference, 0 to 1; where neither has a word it is 0."""
    return lambda hypothesis, reference: float(
        _scorer(kind, ascii_only).score(reference, hypothesis)[kind].fmeasure
    )


def rouge_signature(kind: str, *, ascii_only: bool = False) -> str:
    """What the score depends on."""
    tokens = "a-z0-9" if ascii_only else "unicode words, characters where no blanks are"
    return f"{kind} F1|stem:no|tok:{tokens}|mean over rows|rouge-score {version('rouge-score')}"
