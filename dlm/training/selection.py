"""Which step a stage exports."""

from typing import Literal

from dlm.config.data_checks import task_of
from dlm.config.schema import StageConfig

VALIDATION_LOSS = "validation/loss"


def monitored(config: StageConfig) -> tuple[str | None, Literal["min", "max"]]:
    """The validation metric that chooses the exported step; None: the last step.

    Default as in the paper: task stages by the generated score, the length predictor by its loss,
    pretraining by nothing.
    """
    export = config.validation.export or ("last" if config.kind == "pretrain" else "best")
    if export == "last" or not config.data.validation:
        return None, "min"
    if not scores_answers(config):
        return VALIDATION_LOSS, "min"
    return f"validation/{config.validation.metric}", "max"


def scores_answers(config: StageConfig) -> bool:
    """Whether answers to validation prompts are generated and scored; texts have no prompt."""
    answers = config.kind not in ("pretrain", "length") and task_of(config) != "text"
    return answers and config.validation.generate_rows > 0
