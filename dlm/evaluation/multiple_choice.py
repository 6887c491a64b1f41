"""Tasks of kind multiple_choice: the choice of the lowest likelihood bound per token.

Where k choices have that bound, each of them is chosen by 1/k.
"""

from dlm.data.rows.encoding import encode_responses
from dlm.distributed.share import ALONE, Share
from dlm.evaluation.perplexity import likelihood_settings, shown_likelihood
from dlm.evaluation.scored import Scored, unknown_figures
from dlm.evaluation.task_rows import TaskRows, refuse_none_left
from dlm.generation.likelihood import multiple_choice, pair_rows
from dlm.generation.model import GenerativeModel
from dlm.generation.scored_rows import check_estimable


def check_multiple_choice(model: GenerativeModel, rows: TaskRows) -> None:
    """Refuse a model without a likelihood, and a row that does not fit it."""
    check_estimable(model, likelihood_settings(rows.task))
    if rows.skip_too_long:
        too_long = _too_long(model, rows)
        refuse_none_left(len(too_long), rows, model.backbone.max_length)
        rows = rows.without(too_long)
    questions = enumerate(zip(rows.prompts, rows.choices, strict=True), start=1)
    pairs = [
        (f"row {number}, choice {place}", prompt, choice)
        for number, (prompt, choices) in questions
        for place, choice in enumerate(choices)
    ]
    names, prompts, texts = (list(column) for column in zip(*pairs, strict=True))
    pair_rows(model, prompts, texts, names)


def _too_long(model: GenerativeModel, rows: TaskRows) -> set[int]:
    """Index of each row that does not fit the model's positions with its longest choice."""
    prompts = map(len, model.heads(rows.prompts))
    choices = (
        [len(ids) for ids in encode_responses(model.tokenizer, each)] for each in rows.choices
    )
    return {
        index
        for index, (prompt, lengths) in enumerate(zip(prompts, choices, strict=True))
        if max(lengths) + 1 > model.backbone.room_behind(prompt)
    }


def score_multiple_choice(model: GenerativeModel, rows: TaskRows, share: Share = ALONE) -> Scored:
    """Bound every choice."""
    settings = likelihood_settings(rows.task)
    skipped = _too_long(model, rows) if rows.skip_too_long else set()
    rows = rows.without(skipped)
    chosen = multiple_choice(model, rows.prompts, rows.choices, settings, share=share)
    samples = []
    for index, (prompt, choices, right, choice) in enumerate(
        zip(rows.prompts, rows.choices, rows.right, chosen, strict=True)
    ):
        per_token = [bound.per_token for bound in choice.bounds]
        samples.append({
            "source": prompt, "choices": choices, "right": right, "chosen": choice.index,
            **({"equal": list(choice.lowest)} if len(choice.lowest) > 1 else {}),
            "nats_per_token": [estimate.value for estimate in per_token],
            "standard_error": [estimate.standard_error for estimate in per_token],
            "tokens": [bound.tokens for bound in choice.bounds],
            **({"cluster": rows.clusters[index]} if rows.clusters else {}),
        })  # fmt: skip
    chance = sum(1 / len(choices) for choices in rows.choices) / len(rows.choices)
    texts = [*rows.prompts, *(choice for choices in rows.choices for choice in choices)]
    figures = {"chance": round(100 * chance, 2), **unknown_figures(model, texts)}
    if equal := sum("equal" in sample for sample in samples):
        figures["equal_bounds"] = equal
    if rows.skip_too_long:
        figures["skipped_rows"] = len(skipped)
    return Scored(samples, shown_likelihood(model, rows.task), figures=figures)
