"""Text scores as torchmetrics, reduced over ranks."""

from typing import Any

import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from torchmetrics import Metric

from dlm.generation.empty import empty_answers


class ExactMatch(Metric):
    """Share of answers equal to their reference, in percent."""

    right: torch.Tensor
    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: list[str], target: list[list[str]]) -> None:
        self.right += sum(p in t for p, t in zip(preds, target, strict=True))
        self.total += len(preds)

    def compute(self) -> torch.Tensor:
        return 100 * self.right / self.total.clamp(min=1)


class AnswerLengths(Metric):
    """Answers that are blank, and tokens of answers and of references, all of them sums."""

    sums: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(4, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, texts: list[str], lengths: list[int], references: list[int]) -> None:
        found = [len(texts), empty_answers(texts), sum(lengths), sum(references)]
        self.sums += torch.tensor(found, device=self.sums.device)

    def compute(self) -> torch.Tensor:
        """Answers, blank ones, their tokens, tokens of references; int64 [4]."""
        return self.sums


class CorpusScore(Metric):
    """A corpus score of sacrebleu, from statistics that add up over batches and ranks.

    Not torchmetrics' own BLEU and chrF: they do not smooth and, on short texts, count n-gram
    orders that no text has, so they differ from the scores of the evaluation.
    """

    statistics: torch.Tensor

    def __init__(self, scorer: Any) -> None:
        super().__init__()
        self.scorer = scorer
        width = len(scorer._extract_corpus_statistics([""], [[""]])[0])
        self.add_state("statistics", torch.zeros(width, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: list[str], target: list[list[str]]) -> None:
        if preds:
            references = [list(column) for column in zip(*target, strict=True)]
            rows = self.scorer._extract_corpus_statistics(preds, references)
            self.statistics += torch.tensor(rows, device=self.statistics.device).sum(dim=0)

    def compute(self) -> torch.Tensor:
        score = self.scorer._compute_score_from_stats(self.statistics.tolist()).score
        return torch.tensor(score, device=self.statistics.device)


METRICS: dict[str, Any] = {
    "exact_match": ExactMatch,
    "bleu": lambda: CorpusScore(BLEU()),
    "chrf": lambda: CorpusScore(CHRF()),
    "bleu_lowercase": lambda: CorpusScore(BLEU(lowercase=True)),
    "chrf_lowercase": lambda: CorpusScore(CHRF(lowercase=True)),
}
"""Metric name -> a new torchmetrics metric, in percent, greater is better."""


def text_metric(name: str) -> Metric:
    """A new metric of that name."""
    metric: Metric = METRICS[name]()
    return metric
