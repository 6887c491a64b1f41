"""SARI (Xu et al. 2016): what a simplification keeps, deletes and adds, against its references.

Per sentence, as tensor2tensor and Hugging Face's ``evaluate`` compute it, so that numbers compare:
the recall of kept n-grams counts tokens (Xu's script divides by types, which is taken for a slip),
deletion is precision alone, and 0/0 is 1. Texts are lower-cased and cut by sacrebleu's 13a.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache

from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

MAX_ORDER = 4
_Grams = Counter[tuple[str, ...]]


def sentence_sari(source: str, hypothesis: str, references: Sequence[str]) -> float:
    """From 0 to 1: the mean of keep (F1), delete (precision) and add (F1) over orders 1 to 4."""
    given, made, wanted = _words(source), _words(hypothesis), [_words(text) for text in references]
    total = 0.0
    for order in range(1, MAX_ORDER + 1):
        # Counts of source and hypothesis are multiplied, so that each reference is one vote.
        source_grams = _times(_grams(given, order), len(wanted))
        own_grams = _times(_grams(made, order), len(wanted))
        reference_grams: _Grams = Counter()
        for words in wanted:
            reference_grams.update(_grams(words, order))
        total += _keep(source_grams, own_grams, reference_grams)
        total += _delete(source_grams, own_grams, reference_grams)
        total += _add(source_grams, own_grams, reference_grams)
    return total / (3 * MAX_ORDER)


def _keep(source: _Grams, own: _Grams, references: _Grams) -> float:
    kept, to_keep = source & own, source & references
    right = kept & references
    return _f1(_mean_share(right, kept), _share(right.total(), to_keep.total()))


def _delete(source: _Grams, own: _Grams, references: _Grams) -> float:
    deleted = source - own
    return _mean_share(deleted - references, deleted)


def _add(source: _Grams, own: _Grams, references: _Grams) -> float:
    added, to_add = set(own) - set(source), set(references) - set(source)
    right = len(added & to_add)
    return _f1(_share(right, len(added)), _share(right, len(to_add)))


def _mean_share(part: _Grams, whole: _Grams) -> float:
    """The mean over n-gram types of how much of each is in ``part``."""
    return _share(sum(part[gram] / count for gram, count in whole.items()), len(whole))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _grams(words: Sequence[str], order: int) -> _Grams:
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def _times(grams: _Grams, factor: int) -> _Grams:
    return Counter({gram: factor * count for gram, count in grams.items()})


@cache
def _tokenizer() -> Tokenizer13a:
    return Tokenizer13a()  # type: ignore[no-untyped-call]


def _words(text: str) -> list[str]:
    return str(_tokenizer()(text.lower())).split()
