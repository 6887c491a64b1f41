"""How a task's likelihoods are estimated: from the task's words to settings, and into a report."""

from typing import Any

from dlm.evaluation.tasks import NEXT_TOKEN, Task
from dlm.generation.model import GenerativeModel
from dlm.generation.scored_rows import LikelihoodSettings


def likelihood_settings(task: Task) -> LikelihoodSettings:
    """The settings that the task says."""
    return LikelihoodSettings(**task.likelihood)


def shown_likelihood(model: GenerativeModel, task: Task) -> dict[str, Any]:
    """Those that the estimate depends on, for metrics.json."""
    if model.kind == "autoregressive":
        return {"likelihood": {"estimator": NEXT_TOKEN}}
    settings = likelihood_settings(task)
    shown: dict[str, Any] = {"estimator": settings.estimator}
    if settings.estimator != "chain_rule":
        shown |= {"samples": settings.samples, "seed": settings.seed}
    if settings.estimator == "bernoulli":
        shown["min_time"] = settings.min_time
    return {"likelihood": shown}
