"""SARI (Xu et al. 2016): what a simplification keeps, deletes and adds, against its references.

Of a corpus, as the literature reports it and EASSE (Alva-Manchego et al. 2019, arXiv 1908.04567)
computes it by default: counts are summed over sentences, each of keep, delete and add is the mean
F1 over orders 1 to 4, and 0/0 is 0. Texts are lower-cased and cut by sacrebleu's 13a, or by the
tokenizer of a script without blanks.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

MAX_ORDER = 4
_Grams = Counter[tuple[str, ...]]
_Counts = tuple[float, float, float]
"""N-grams that are right, that the hypothesis has, that the references have."""


def thirteen_a(text: str) -> str:
    """A text cut by sacrebleu's 13a."""
    return str(_tokenizer()(text))


def sari_counts(
    source: str,
    hypothesis: str,
    references: Sequence[str],
    *,
    cut: Callable[[str], str] = thirteen_a,
) -> npt.NDArray[np.float64]:
    """The counts of a sentence [orders, (keep, delete, add), (right, made, wanted)], flat.

    Every reference is a vote of 1 / their number: equal ones are several votes, and a sentence
    weighs the same however many it has (EASSE asks for the same number everywhere). ``cut`` sets
    blanks between the words of a text.
    """
    given, made, *wanted = (cut(text.lower()).split() for text in (source, hypothesis, *references))
    votes = len(wanted)
    counts: list[_Counts] = []
    for order in range(1, MAX_ORDER + 1):
        source_grams = _times(_grams(given, order), votes)
        own_grams = _times(_grams(made, order), votes)
        reference_grams: _Grams = Counter()
        for words in wanted:
            reference_grams.update(_grams(words, order))
        kept, to_keep = source_grams & own_grams, source_grams & reference_grams
        deleted, to_delete = source_grams - own_grams, source_grams - reference_grams
        added, to_add = own_grams.keys() - source_grams, reference_grams.keys() - source_grams
        counts += [
            _of_votes(kept, to_keep, votes),
            _of_votes(deleted, to_delete, votes),
            (len(added & to_add), len(added), len(to_add)),
        ]
    return np.array(counts, dtype=np.float64).ravel()


def sari_of(total: npt.NDArray[np.float64]) -> float:
    """The score of a corpus in percent, from the sum of its sentences' counts."""
    right, made, wanted = total.reshape(-1, 3).T
    both = made + wanted
    f1 = np.divide(2 * right, both, out=np.zeros_like(both), where=both > 0)
    return float(100.0 * f1.mean())


def _of_votes(own: _Grams, wanted: _Grams, votes: int) -> _Counts:
    return (own & wanted).total() / votes, own.total() / votes, wanted.total() / votes


def _grams(words: Sequence[str], order: int) -> _Grams:
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def _times(grams: _Grams, factor: int) -> _Grams:
    return Counter({gram: factor * count for gram, count in grams.items()})


@cache
def _tokenizer() -> Tokenizer13a:
    return Tokenizer13a()  # type: ignore[no-untyped-call]
