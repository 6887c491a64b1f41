"""How a task's likelihoods are estimated: from the task's words to settings, and into a report."""

from typing import Any

from dlm.evaluation.tasks import Task
from dlm.generation.scored_rows import LikelihoodSettings


def likelihood_settings(task: Task) -> LikelihoodSettings:
    """The settings that the task says."""
    return LikelihoodSettings(**task.likelihood)


def shown_likelihood(task: Task) -> dict[str, Any]:
    """Those that the estimate depends on, for metrics.json."""
    settings = likelihood_settings(task)
    shown: dict[str, Any] = {"estimator": settings.estimator}
    if settings.estimator != "chain_rule":
        shown |= {"samples": settings.samples, "seed": settings.seed}
    if settings.estimator == "bernoulli":
        shown["min_time"] = settings.min_time
    return {"likelihood": shown}
