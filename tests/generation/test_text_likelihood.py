"""Likelihoods of texts under tiny real models, against the same sums written out."""

import itertools
import math
import statistics
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_generation import count_calls, letter_tokenizer, tiny_model
from torch import Tensor

from dlm.data.rows.encoding import encode_prompts, encode_responses
from dlm.diffusion.likelihood import bernoulli_bound, chain_rule, exactly_l_bound
from dlm.diffusion.noise import NoiseKey
from dlm.errors import UserError
from dlm.generation.likelihood import (
    conditional_bounds,
    multiple_choice,
    perplexity,
    rolling_bounds,
    rolling_perplexity,
)
from dlm.generation.model import GenerativeModel
from dlm.generation.scored_rows import (
    Bound,
    Estimator,
    LikelihoodSettings,
    row_bounds,
    scored_row,
)
from dlm.models.backbone import Backbone

SETTINGS = LikelihoodSettings(samples=16)
PAIRS = [
    ("the red fox", "der hund lief schnell"), ("a dog", "ran"), ("x", "ein roter fuchs"),
    ("the dog sat on a red mat", "a dog"), ("fox", "the red fox ran"),
]  # fmt: skip
PROMPTS, RESPONSES = [p for p, _ in PAIRS], [r for _, r in PAIRS]
TEXT = "the red fox ran a dog sat on the mat der hund lief schnell ein roter fuchs " * 3


@pytest.fixture
def padded_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the network are those of the texts, so that they can be counted."""
    monkeypatch.setattr(Backbone, "packs", lambda self, device: False)


def row_of(model: GenerativeModel, prompt: str, response: str) -> tuple[Tensor, Tensor]:
    """The whole row [1, L], and which of its tokens are the response's."""
    (head,), (tail,) = (
        encode_prompts(model.tokenizer, [prompt]),
        encode_responses(model.tokenizer, [response]),
    )
    tokens = torch.tensor([[*head, *tail, model.special.end]])
    place = torch.arange(tokens.shape[1])
    return tokens, ((place >= len(head)) & (place < tokens.shape[1] - 1))[None]


def forbidden(model: GenerativeModel, *allowed: int | None) -> Tensor:
    return torch.tensor([i for i in model.tokenizer.all_special_ids if i not in allowed])


def all_logits(model: GenerativeModel, tokens_BL: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.backbone.logits(
            model.backbone.hidden(tokens_BL, torch.ones_like(tokens_BL, dtype=torch.bool))
        )


def assert_same(bounds: list[Bound], others: list[Bound]) -> None:
    for bound, other in zip(bounds, others, strict=True):
        assert bound.tokens == other.tokens
        assert bound.nats.samples == other.nats.samples
        assert bound.nats.value == pytest.approx(other.nats.value, rel=1e-5)
        assert bound.nats.standard_error == pytest.approx(other.nats.standard_error, rel=1e-3)


@pytest.mark.parametrize("estimator", ["exactly_l", "bernoulli", "chain_rule"])
@pytest.mark.parametrize("with_end", [False, True])
def test_the_bound_of_a_pair_is_that_of_its_unpadded_row_on_its_own(
    estimator: Estimator, with_end: bool
) -> None:
    model = tiny_model()
    settings = replace(SETTINGS, estimator=estimator, batch_tokens=100)
    bounds = conditional_bounds(model, PROMPTS, RESPONSES, settings, with_end=with_end)
    for index, (pair, bound) in enumerate(zip(PAIRS, bounds, strict=True)):
        tokens_BL, maskable_BL = row_of(model, *pair)
        maskable_BL[0, -1] = with_end
        unknown = model.tokenizer.unk_token_id
        same: dict[str, Any] = {
            "mask_token_id": model.special.mask,
            "forbidden_ids": forbidden(model, unknown, model.special.end if with_end else None),
        }
        drawn: dict[str, Any] = {"key": NoiseKey(0, torch.tensor([index])), "samples": 16, **same}
        (alone,) = {
            "exactly_l": lambda *a: exactly_l_bound(*a, **drawn),  # noqa: B023
            "bernoulli": lambda *a: bernoulli_bound(*a, **drawn),  # noqa: B023
            "chain_rule": lambda *a: chain_rule(*a, **same),  # noqa: B023
        }[estimator](lambda tokens: all_logits(model, tokens), tokens_BL, maskable_BL)
        assert_same([bound], [Bound(alone, int(maskable_BL.sum()))])


@pytest.mark.parametrize("batch_tokens", [1, 60, 100_000])
def test_bounds_are_the_same_for_any_batch_size_packed_or_padded(
    batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    usual = conditional_bounds(model, PROMPTS, RESPONSES, SETTINGS)
    packed = replace(SETTINGS, batch_tokens=batch_tokens)
    assert_same(conditional_bounds(model, PROMPTS, RESPONSES, packed), usual)
    monkeypatch.setattr(Backbone, "packs", lambda self, device: False)
    shapes = count_calls(model)
    settings = replace(SETTINGS, batch_tokens=batch_tokens)
    assert_same(conditional_bounds(model, PROMPTS, RESPONSES, settings), usual)
    assert all(rows * width <= batch_tokens or rows == 1 for rows, width in shapes)


def test_a_pair_of_the_same_identity_has_the_same_bound_in_another_list() -> None:
    model = tiny_model()
    usual = conditional_bounds(model, PROMPTS, RESPONSES, SETTINGS)
    (alone,) = conditional_bounds(model, PROMPTS[4:], RESPONSES[4:], SETTINGS, row_ids=[4])
    assert_same([alone], usual[4:])
    (other,) = conditional_bounds(model, PROMPTS[4:], RESPONSES[4:], SETTINGS, row_ids=[5])
    assert other.nats.value != pytest.approx(alone.nats.value, rel=1e-4)


def test_another_seed_draws_other_masks() -> None:
    model = tiny_model()
    first = conditional_bounds(model, PROMPTS, RESPONSES, SETTINGS)[0].nats.value
    again = conditional_bounds(model, PROMPTS, RESPONSES, replace(SETTINGS, seed=1))[0].nats.value
    assert first != pytest.approx(again, rel=1e-4)


@pytest.mark.usefixtures("padded_rows")
def test_a_response_of_one_token_is_exact_and_asked_once() -> None:
    model = tiny_model()
    words = [w for w in TEXT.split() if len(encode_responses(model.tokenizer, [w])[0]) == 1]
    shapes = count_calls(model)
    (bound,) = conditional_bounds(model, ["a dog"], words[:1], SETTINGS)
    assert [rows for rows, _ in shapes] == [1]
    tokens_BL, maskable_BL = row_of(model, "a dog", words[0])
    logits_V = all_logits(model, tokens_BL.masked_fill(maskable_BL, model.special.mask))[
        maskable_BL
    ]
    refused = forbidden(model, model.tokenizer.unk_token_id)
    log_p_V = logits_V[0].double().index_fill(0, refused, -torch.inf).log_softmax(-1)
    assert bound.nats.value == pytest.approx(-float(log_p_V[tokens_BL[maskable_BL][0]]), rel=1e-5)
    assert (bound.nats.standard_error, bound.nats.samples, bound.tokens) == (0, 16, 1)


@pytest.mark.usefixtures("padded_rows")
def test_draws_of_equal_masks_share_a_network_call() -> None:
    model = tiny_model(tokenizer=letter_tokenizer())
    shapes = count_calls(model)
    settings = replace(SETTINGS, samples=500)
    (bound,) = conditional_bounds(model, ["a b"], ["ab"], settings)
    assert bound.tokens == 3
    assert sum(rows for rows, _ in shapes) == 2**3 - 1


def test_the_end_token_counts_and_is_scored_only_where_asked() -> None:
    model = tiny_model()
    settings = replace(SETTINGS, estimator="chain_rule")
    without = conditional_bounds(model, PROMPTS, RESPONSES, settings)
    with_end = conditional_bounds(model, PROMPTS, RESPONSES, settings, with_end=True)
    for ended, bound in zip(with_end, without, strict=True):
        assert ended.tokens == bound.tokens + 1
        assert ended.nats.value != pytest.approx(bound.nats.value, rel=1e-3)


def test_an_unknown_token_is_scored_like_any_other() -> None:
    model = tiny_model(tokenizer=letter_tokenizer())
    assert model.tokenizer.unk_token_id in encode_responses(model.tokenizer, ["aé"])[0]
    (bound,) = conditional_bounds(model, ["a b"], ["aé"], SETTINGS)
    assert math.isfinite(bound.nats.value)


def test_multiple_choice_takes_the_lowest_bound_per_token() -> None:
    model = tiny_model()
    choices = [RESPONSES, ["a", "schnell"], ["a dog", "the mat", "fuchs"]]
    answers = multiple_choice(model, PROMPTS[:3], choices, SETTINGS)
    for question, (answer, texts) in enumerate(zip(answers, choices, strict=True)):
        bounds = conditional_bounds(
            model, [PROMPTS[question]] * len(texts), texts, SETTINGS,
            row_ids=[question] * len(texts),
        )  # fmt: skip
        assert_same(answer.bounds, bounds)
        rates = [bound.nats.value / bound.tokens for bound in bounds]
        assert answer.index == rates.index(min(rates))
    per_text = [[b.nats.value for b in answer.bounds] for answer in answers]
    assert any(
        values.index(min(values)) != answer.index
        for values, answer in zip(per_text, answers, strict=True)
    ), "no question tells the lowest bound from the lowest bound per token"


def test_equal_choices_have_equal_bounds_and_none_is_taken_alone() -> None:
    choices = ["ran fast", "the mat", "ran fast"]
    (answer,) = multiple_choice(tiny_model(), ["a dog"], [choices], SETTINGS)
    assert answer.bounds[0] == answer.bounds[2]
    assert answer.lowest == ((1,) if answer.index == 1 else (0, 2))
    (twice,) = multiple_choice(tiny_model(), ["a dog"], [["ran fast", "ran fast"]], SETTINGS)
    assert (twice.lowest, twice.index) == ((0, 1), 0)


def test_a_text_that_fits_is_one_row_without_a_prompt() -> None:
    model = tiny_model()
    (bound,) = rolling_bounds(model, [PROMPTS[3]], SETTINGS)
    (tokens,) = encode_responses(model.tokenizer, [PROMPTS[3]])
    row = torch.tensor([[model.special.begin, *tokens, model.special.end]])
    maskable = torch.ones_like(row, dtype=torch.bool)
    maskable[0, [0, -1]] = False
    (alone,) = exactly_l_bound(
        lambda tokens_BL: all_logits(model, tokens_BL), row, maskable,
        key=NoiseKey(0, torch.tensor([0])), samples=16, mask_token_id=model.special.mask,
        forbidden_ids=forbidden(model, model.tokenizer.unk_token_id),
    )  # fmt: skip
    assert_same([bound], [Bound(alone, len(tokens))])


@pytest.mark.usefixtures("padded_rows")
@pytest.mark.parametrize("context_tokens", [0, 5])
def test_a_long_text_is_scored_in_the_fewest_even_windows_each_token_once(
    context_tokens: int,
) -> None:
    """By chain rule, so that the windows can be added up one by one."""
    model = tiny_model()
    settings = replace(SETTINGS, estimator="chain_rule")
    (tokens,) = encode_responses(model.tokenizer, [TEXT])
    room = 40 - 2 - context_tokens
    windows = -(-len(tokens) // room)
    assert windows > 2
    shapes = count_calls(model)
    (bound,) = rolling_bounds(model, [TEXT], settings, context_tokens=context_tokens)
    assert max(width for _, width in shapes) <= 40
    assert bound.tokens == len(tokens) == sum(rows for rows, _ in shapes)
    borders = [len(tokens) * window // windows for window in range(windows + 1)]
    total = 0.0
    for start, stop in itertools.pairwise(borders):
        assert len(tokens) // windows <= stop - start <= room
        head = [model.special.begin, *tokens[max(0, start - context_tokens) : start]]
        row = torch.tensor([[*head, *tokens[start:stop], model.special.end]])
        place = torch.arange(row.shape[1])
        (part,) = chain_rule(
            lambda tokens_BL: all_logits(model, tokens_BL), row,
            ((place >= len(head)) & (place < row.shape[1] - 1))[None],
            mask_token_id=model.special.mask,
            forbidden_ids=forbidden(model, model.tokenizer.unk_token_id),
        )  # fmt: skip
        total += part.value
    assert bound.nats.value == pytest.approx(total, rel=1e-5)


def test_windows_of_a_repeated_text_have_draws_of_their_own() -> None:
    model = tiny_model(max_positions=7)
    (bound,) = rolling_bounds(model, [" ".join(["the red fox ran"] * 4)], SETTINGS)
    window = rolling_bounds(model, ["the red fox ran"], SETTINGS)[0]
    assert (bound.tokens, window.tokens) == (20, 5)
    assert bound.nats.value != pytest.approx(4 * window.nats.value, rel=1e-3)


def test_perplexity_of_a_corpus_is_that_of_all_its_tokens() -> None:
    model = tiny_model()
    bounds = rolling_bounds(model, [TEXT, "a dog ran", "der fuchs"], SETTINGS)
    result = perplexity(bounds)
    nats, tokens = sum(b.nats.value for b in bounds), sum(b.tokens for b in bounds)
    error = math.sqrt(sum(b.nats.standard_error**2 for b in bounds))
    assert result.value == pytest.approx(math.exp(nats / tokens), rel=1e-12)
    assert result.standard_error == pytest.approx(result.value * error / tokens, rel=1e-12)
    assert result.bound.tokens == tokens
    assert perplexity(bounds[:1]) == rolling_perplexity(model, TEXT, SETTINGS)


def test_standard_error_of_the_perplexity_is_its_spread_over_seeds() -> None:
    """40 seeds of 8 draws; a spread over 40 is known within 11 percent."""
    model = tiny_model()
    results = [
        rolling_perplexity(model, TEXT, LikelihoodSettings(samples=8, seed=seed))
        for seed in range(40)
    ]
    spread = statistics.stdev(r.value for r in results)
    assert statistics.mean(r.standard_error for r in results) == pytest.approx(spread, rel=0.33)


def test_nothing_to_score_gives_nothing() -> None:
    model = tiny_model()
    assert conditional_bounds(model, [], [], SETTINGS) == []
    assert multiple_choice(model, [], [], SETTINGS) == []
    assert rolling_bounds(model, [], SETTINGS) == []


def test_empty_texts_are_refused_by_their_number() -> None:
    model = tiny_model()
    with pytest.raises(UserError, match=r"pair 2 of 2: the response is empty.* leave it out"):
        conditional_bounds(model, ["a dog", "fox"], ["ran", ""], SETTINGS)
    with pytest.raises(UserError, match=r"pair 1 of 1: the prompt is empty: give it some text"):
        conditional_bounds(model, [" "], ["ran"], SETTINGS)
    with pytest.raises(UserError, match="text 2 of 2 is empty: leave it out"):
        rolling_bounds(model, ["a dog", ""], SETTINGS)
    with pytest.raises(UserError, match="no text to take the perplexity of"):
        perplexity([])


def test_questions_without_choices_or_with_an_empty_one_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(UserError, match="question 2 of 2 has no choices: give it some"):
        multiple_choice(model, ["a dog", "fox"], [["ran"], []], SETTINGS)
    with pytest.raises(UserError, match="question 1 of 1, choice 2: the response is empty"):
        multiple_choice(model, ["a dog"], [["ran", ""]], SETTINGS)


def test_a_pair_longer_than_the_model_is_refused_with_both_numbers() -> None:
    model = tiny_model()
    with pytest.raises(
        UserError, match=r"pair 1 of 1: .* take \d+ tokens.* do not fit the model's 40 positions"
    ):
        conditional_bounds(model, ["a dog"], [TEXT], SETTINGS)


def test_a_context_that_leaves_no_window_is_refused_with_its_range() -> None:
    with pytest.raises(UserError, match="context_tokens=38 must lie between 0 and 37"):
        rolling_bounds(tiny_model(), [TEXT], SETTINGS, context_tokens=38)


def test_one_sample_is_refused_as_it_has_no_standard_error() -> None:
    with pytest.raises(UserError, match="samples=1 gives no standard error: use at least 2"):
        conditional_bounds(tiny_model(), ["a dog"], ["ran"], replace(SETTINGS, samples=1))


def next_tokens_by_hand(
    model: GenerativeModel, tokens_1L: Tensor, scored: range, prompt: int, *allowed: int | None
) -> float:
    """Each token of a row from the states of a network that reads only what is before it."""
    total = 0.0
    for place in scored:
        before_1L = tokens_1L[:, :place]
        valid_1L = torch.ones_like(before_1L, dtype=torch.bool)
        response_1L = valid_1L & (torch.arange(place) >= prompt)
        with torch.inference_mode():
            state_1LH = model.backbone.hidden(
                before_1L, valid_1L, attention="prefix_causal", response_BL=response_1L
            )
            logits_V = model.backbone.logits(state_1LH[0, -1]).double()
        impossible = forbidden(model, model.tokenizer.unk_token_id, *allowed)
        logits_V = logits_V.index_fill(0, impossible, -torch.inf)
        total -= float(logits_V.log_softmax(-1)[tokens_1L[0, place]])
    return total


@pytest.mark.parametrize("with_end", [False, True])
def test_an_autoregressive_model_gives_the_chain_rule_from_left_to_right(with_end: bool) -> None:
    model = tiny_model("autoregressive")
    settings = replace(SETTINGS, samples=1, batch_tokens=40)
    bounds = conditional_bounds(model, PROMPTS, RESPONSES, settings, with_end=with_end)
    for (prompt, response), bound in zip(PAIRS, bounds, strict=True):
        tokens_1L, scored_1L = row_of(model, prompt, response)
        start = int(scored_1L[0].nonzero()[0])
        stop = tokens_1L.shape[1] - (0 if with_end else 1)
        end = model.special.end if with_end else None
        expected = next_tokens_by_hand(model, tokens_1L, range(start, stop), start, end)
        assert bound.nats.value == pytest.approx(expected, rel=1e-5)
        assert bound.nats.standard_error == 0 and bound.tokens == stop - start
    choice = multiple_choice(model, ["a dog"], [["ran", "der hund lief"]], settings)[0]
    assert len(choice.bounds) == 2


def test_a_text_of_an_autoregressive_model_is_read_behind_its_begin_token() -> None:
    """In the windows that a diffusion model has, so that perplexities stand side by side."""
    model = tiny_model("autoregressive", max_positions=30)
    (bound,) = rolling_bounds(model, [TEXT], SETTINGS, context_tokens=6)
    (ids,) = encode_responses(model.tokenizer, [TEXT])
    windows = math.ceil(len(ids) / (model.backbone.max_length - 8))
    cuts = [len(ids) * window // windows for window in range(windows + 1)]
    expected = 0.0
    for start, stop in itertools.pairwise(cuts):
        context = ids[max(0, start - 6) : start]
        row_1L = torch.tensor([[model.special.begin, *context, *ids[start:stop]]])
        first = 1 + len(context)
        expected += next_tokens_by_hand(model, row_1L, range(first, row_1L.shape[1]), 1)
    assert windows > 2 and bound.tokens == len(ids)
    assert bound.nats.value == pytest.approx(expected, rel=1e-5)
    value = rolling_perplexity(model, TEXT, SETTINGS, context_tokens=6).value
    assert value == pytest.approx(math.exp(expected / len(ids)), rel=1e-5)


def test_next_tokens_of_all_texts_sum_to_one() -> None:
    """Of a given length: the end takes no part, as in the bounds of a diffusion model."""
    model = tiny_model("autoregressive", tokenizer=letter_tokenizer())
    unknown = model.tokenizer.unk_token_id
    letters = [i for i in range(len(model.tokenizer)) if i not in forbidden(model, unknown)]
    rows = [
        scored_row(model, [model.special.begin], list(ids))
        for ids in itertools.product(letters, repeat=2)
    ]
    bounds = row_bounds(model, rows, list(range(len(rows))), SETTINGS, with_end=False)
    assert sum(math.exp(-bound.nats.value) for bound in bounds) == pytest.approx(1, rel=1e-5)
