"""Tasks of kind multiple_choice: the choice of the lowest likelihood bound per token."""

from dlm.distributed.share import ALONE, Share
from dlm.evaluation.likelihood_settings import likelihood_settings, shown_likelihood
from dlm.evaluation.scored import Scored, unknown_figures
from dlm.evaluation.task_rows import TaskRows
from dlm.generation.likelihood import multiple_choice, pair_rows
from dlm.generation.model import GenerativeModel
from dlm.generation.scored_rows import check_estimable


def check_multiple_choice(model: GenerativeModel, rows: TaskRows) -> None:
    """Refuse a model without a likelihood, and a row that does not fit it."""
    check_estimable(model, likelihood_settings(rows.task))
    questions = enumerate(zip(rows.prompts, rows.choices, strict=True), start=1)
    pairs = [
        (f"row {number}, choice {place}", prompt, choice)
        for number, (prompt, choices) in questions
        for place, choice in enumerate(choices)
    ]
    names, prompts, texts = (list(column) for column in zip(*pairs, strict=True))
    pair_rows(model, prompts, texts, names)


def score_multiple_choice(model: GenerativeModel, rows: TaskRows, share: Share = ALONE) -> Scored:
    """Bound every choice."""
    settings = likelihood_settings(rows.task)
    chosen = multiple_choice(model, rows.prompts, rows.choices, settings, share=share)
    samples = []
    for prompt, choices, right, choice in zip(
        rows.prompts, rows.choices, rows.right, chosen, strict=True
    ):
        per_token = [bound.per_token for bound in choice.bounds]
        samples.append({
            "source": prompt, "choices": choices, "right": right, "chosen": choice.index,
            "nats_per_token": [estimate.value for estimate in per_token],
            "standard_error": [estimate.standard_error for estimate in per_token],
            "tokens": [bound.tokens for bound in choice.bounds],
        })  # fmt: skip
    chance = sum(1 / len(choices) for choices in rows.choices) / len(rows.choices)
    texts = [*rows.prompts, *(choice for choices in rows.choices for choice in choices)]
    figures = {"chance": round(100 * chance, 2), **unknown_figures(model, texts)}
    return Scored(samples, shown_likelihood(rows.task), figures=figures)
