"""Which step a stage exports."""

from collections.abc import Sequence
from typing import Literal

from dlm.callbacks import VALIDATION_LOSS
from dlm.config.checks.data import task_of
from dlm.config.schema import MetricName, StageConfig

_LONGEST_NGRAM = 4


def monitored(config: StageConfig, metric: str | None) -> tuple[str | None, Literal["min", "max"]]:
    """The validation figure that chooses the exported step; None: the last step.

    Default as in the paper: task stages by the generated score, the length predictor by its loss,
    pretraining by nothing. ``metric``: the generated score; None: there is none.
    """
    if not exports_best(config):
        return None, "min"
    return (VALIDATION_LOSS, "min") if metric is None else (f"validation/{metric}", "max")


def exports_best(config: StageConfig) -> bool:
    """Whether validation chooses the exported step."""
    export = config.validation.export or ("last" if config.kind == "pretrain" else "best")
    return export == "best" and bool(config.data.validation)


def scores_answers(config: StageConfig) -> bool:
    """Whether answers to validation prompts are generated and scored; texts have no prompt."""
    answers = config.kind not in ("pretrain", "length") and task_of(config) != "text"
    return answers and config.validation.generate_rows > 0


def fitting_metric(references: Sequence[str]) -> MetricName:
    """bleu, if most references have the four words of its longest n-gram; else chrf, which reads
    characters: BLEU is 0 for short answers, and for texts without blanks between their words."""
    long_enough = sum(len(reference.split()) >= _LONGEST_NGRAM for reference in references)
    return "bleu" if 2 * long_enough > len(references) else "chrf"
