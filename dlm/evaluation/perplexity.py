"""Tasks of kind perplexity: likelihood bounds of given texts, alone or behind a prompt.

The one place where a perplexity is reported. It is estimated from bounds on -log p, never from a
training loss: that is a bound under the weight ``elbo`` alone, and without a normaliser.
"""

from typing import Any

from dlm.data.rows.encoding import encode_responses
from dlm.distributed.share import ALONE, Share
from dlm.evaluation.scored import Scored
from dlm.evaluation.task_rows import TaskRows
from dlm.evaluation.tasks import NEXT_TOKEN, Task
from dlm.generation.likelihood import conditional_bounds, pair_rows, perplexity, rolling_bounds
from dlm.generation.model import GenerativeModel
from dlm.generation.scored_rows import LikelihoodSettings, check_estimable


def check_perplexity(model: GenerativeModel, rows: TaskRows) -> None:
    """Refuse a model without a likelihood, and a pair that does not fit it."""
    check_estimable(model, likelihood_settings(rows.task))
    if rows.task.template.prompt:
        names = [f"row {number}" for number in range(1, len(rows.prompts) + 1)]
        pair_rows(model, rows.prompts, rows.references, names)


def score_perplexity(model: GenerativeModel, rows: TaskRows, share: Share = ALONE) -> Scored:
    """Bound every text; texts alone are read in windows that fit the model."""
    settings = likelihood_settings(rows.task)
    if rows.task.template.prompt:
        bounds = conditional_bounds(model, rows.prompts, rows.references, settings, share=share)
    else:
        bounds = rolling_bounds(model, rows.references, settings, share=share)
    samples = [
        {"source": prompt, "text": text, "bound": bound.nats.value,
         "standard_error": bound.nats.standard_error, "tokens": bound.tokens}
        for prompt, text, bound in zip(rows.prompts, rows.references, bounds, strict=True)
    ]  # fmt: skip
    whole = perplexity(bounds)
    unknown = model.tokenizer.unk_token_id
    texts = encode_responses(model.tokenizer, rows.references)
    return Scored(
        samples,
        shown_likelihood(model, rows.task),
        {
            "perplexity": whole.standard_error,
            "nats_per_token": whole.bound.per_token.standard_error,
        },
        # An unknown token stands for any text: the more there are, the less a perplexity says.
        {"tokens": whole.bound.tokens, "unknown_tokens": sum(ids.count(unknown) for ids in texts)},
    )


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
