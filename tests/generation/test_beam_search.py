"""Beam search of the twin against every possible answer, scored one by one."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from test_fast_generation import SHAPES, model_of
from tiny_generation import PROMPTS, count_calls, letter_tokenizer, tiny_model

from dlm.data.rows.encoding import encode_prompts
from dlm.generation.generate import generate
from dlm.generation.generated import Generated
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings

LIMIT = 3
LETTER_PROMPTS = ["a b", "b", "a a b a", "b b"]
WIDE = GenerationSettings(beam_size=60, max_new_tokens=LIMIT)


@torch.no_grad()
def next_log_p(model: GenerativeModel, head: list[int], answer: list[int]) -> list[float]:
    """Log-probabilities behind prompt and answer, in double precision; mask written as loops."""
    row = [*head, *answer]
    mask = torch.zeros(1, 1, len(row), len(row), dtype=torch.bool)
    for query in range(len(row)):
        for key in range(len(row)):
            mask[0, 0, query, key] = key < len(head) or key <= query
    position = torch.arange(len(row))[None] + model.special.pad + 1
    logits = (
        model.backbone.network(
            input_ids=torch.tensor([row]), attention_mask=mask, position_ids=position
        )
        .logits[0, -1]
        .double()
    )
    for token in (model.special.begin, model.special.pad, model.special.mask, 3):
        logits[token] = -math.inf
    return logits.log_softmax(-1).tolist()


def every_answer(
    model: GenerativeModel, head: list[int], answer: tuple[int, ...] = (), total: float = 0.0
) -> Iterator[tuple[tuple[int, ...], float, int]]:
    """Every answer that ends before the limit and every one that is cut there, with the sum of
    its log-probabilities and how many these are (the end token's among them)."""
    if len(answer) == LIMIT:
        yield answer, total, LIMIT
        return
    log_p = next_log_p(model, head, list(answer))
    yield answer, total + log_p[model.special.end], len(answer) + 1
    for token in range(len(model.tokenizer)):
        if token not in model.tokenizer.all_special_ids:
            yield from every_answer(model, head, (*answer, token), total + log_p[token])


@cache
def all_answers(seed: int, prompt: str) -> list[tuple[str, int, float, int]]:
    model = tiny_model("autoregressive", tokenizer=letter_tokenizer(), seed=seed)
    (head,) = encode_prompts(model.tokenizer, [prompt])
    found = list(every_answer(model, head))
    assert len(found) == 1 + 3 + 9 + 27
    return [
        (str(model.tokenizer.decode(list(answer))).strip(), len(answer), total, count)
        for answer, total, count in found
    ]


def best_of_all(seed: int, prompt: str, length_penalty: float) -> Generated:
    text, length, total, count = max(
        all_answers(seed, prompt), key=lambda item: item[2] / item[3] ** length_penalty
    )
    return Generated(text, length, total / count)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_beam_wide_enough_finds_the_best_of_all_answers(seed: int, length_penalty: float) -> None:
    model = tiny_model("autoregressive", tokenizer=letter_tokenizer(), seed=seed)
    settings = replace(WIDE, length_penalty=length_penalty)
    for prompt, answer in zip(
        LETTER_PROMPTS, generate(model, LETTER_PROMPTS, settings).answers, strict=True
    ):
        expected = best_of_all(seed, prompt, length_penalty)
        assert (answer.text, answer.length) == (expected.text, expected.length)
        assert answer.score == pytest.approx(expected.score, abs=1e-4)


def greedy(model: GenerativeModel, prompt: str, limit: int) -> Generated:
    (head,) = encode_prompts(model.tokenizer, [prompt])
    answer: list[int] = []
    total, count = 0.0, 0
    while len(answer) < limit:
        log_p = next_log_p(model, head, answer)
        token = max(range(len(log_p)), key=log_p.__getitem__)
        total, count = total + log_p[token], count + 1
        if token == model.special.end:
            break
        answer.append(token)
    text = str(model.tokenizer.decode(answer, skip_special_tokens=True)).strip()
    return Generated(text, len(answer), total / count)


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    settings = GenerationSettings(beam_size=1, max_new_tokens=8)
    for model, prompts in (
        (tiny_model("autoregressive", seed=seed), PROMPTS),
        (tiny_model("autoregressive", tokenizer=letter_tokenizer(), seed=seed), LETTER_PROMPTS),
    ):
        for prompt, answer in zip(prompts, generate(model, prompts, settings).answers, strict=True):
            expected = greedy(model, prompt, 8)
            assert (answer.text, answer.length) == (expected.text, expected.length)
            assert answer.score == pytest.approx(expected.score, abs=1e-4)


def test_a_wider_beam_never_finds_a_worse_sum_on_these_examples() -> None:
    """Without length penalty, the best sum of the exact beam is at least the greedy one."""
    model = tiny_model("autoregressive", tokenizer=letter_tokenizer())
    sums = []
    for beam in (1, 60):
        settings = replace(WIDE, beam_size=beam, length_penalty=0.0)
        answers = generate(model, LETTER_PROMPTS, settings).answers
        sums.append([a.score * (a.length + (a.length < LIMIT)) for a in answers])
    assert all(wide >= narrow - 1e-5 for narrow, wide in zip(*sums, strict=True))
    assert sums[0] != sums[1], "greedy should not be the best everywhere"


@pytest.mark.parametrize("beam_size", [1, 2, 5, 70])
@pytest.mark.parametrize("batch_tokens", [1, 400, 100_000])
def test_batch_size_does_not_change_the_text(beam_size: int, batch_tokens: int) -> None:
    model = tiny_model("autoregressive", max_positions=60)
    settings = GenerationSettings(beam_size=beam_size, max_new_tokens=3)
    expected = generate(model, PROMPTS, settings)
    got = generate(model, PROMPTS, replace(settings, batch_tokens=batch_tokens))
    assert [a.text for a in got.answers] == [a.text for a in expected.answers]
    alone = [generate(model, [prompt], settings).answers[0].text for prompt in PROMPTS]
    assert alone == [a.text for a in expected.answers]


def test_answers_hold_no_special_token_and_at_most_the_limit() -> None:
    model = tiny_model("autoregressive", tokenizer=letter_tokenizer())
    settings = GenerationSettings(beam_size=7, max_new_tokens=5)
    for answer in generate(model, LETTER_PROMPTS, settings).answers:
        assert set(answer.text) <= set("ab ")
        assert answer.length <= 5 and answer.score < 0


def test_answers_end_where_the_models_positions_do() -> None:
    model = tiny_model("autoregressive", max_positions=14)
    shapes = count_calls(model)
    answers = generate(model, PROMPTS[:2], GenerationSettings(beam_size=2)).answers
    heads = encode_prompts(model.tokenizer, PROMPTS[:2])
    assert max(width for _, width in shapes) <= 14
    for head, answer in zip(heads, answers, strict=True):
        assert len(head) + answer.length + 1 <= 14


def test_network_calls_are_counted() -> None:
    model = tiny_model("autoregressive")
    shapes = count_calls(model)
    result = generate(model, PROMPTS, GenerationSettings(beam_size=3, max_new_tokens=6))
    assert result.network_calls == len(shapes) > 1
    prompts = encode_prompts(model.tokenizer, PROMPTS)
    assert shapes[0] == (1, sum(map(len, prompts))), "every prompt is read once"
    assert max(tokens for _, tokens in shapes[1:]) <= 3 * len(PROMPTS), "and every token behind it"


def test_a_wide_beam_reads_no_answer_with_a_forbidden_token() -> None:
    model = tiny_model("autoregressive", tokenizer=letter_tokenizer())
    shapes = count_calls(model)
    generate(model, LETTER_PROMPTS, replace(WIDE, batch_tokens=100_000))
    assert [tokens // len(LETTER_PROMPTS) for _, tokens in shapes[1:]] == [3, 9]


def narrow_beam(
    model: GenerativeModel, prompt: str, size: int, limit: int
) -> tuple[Generated, list[int]]:
    """The beam keeps the best ``size`` that go on; an end counts where it is among the best
    ``size`` of all continuations; it is over with ``size`` ends or at the limit. Also the rows
    that are read at every step."""
    (head,) = encode_prompts(model.tokenizer, [prompt])
    active: list[tuple[list[int], float]] = [([], 0.0)]
    finished: list[tuple[list[int], float, int]] = []
    rows = []
    while active:
        rows.append(len(active))
        grown = [
            (answer, token, total + value)
            for answer, total in active
            for token, value in enumerate(next_log_p(model, head, answer))
        ]
        grown.sort(key=lambda item: -item[2])
        ends = [item for item in grown[:size] if item[1] == model.special.end]
        finished += [(answer, total, len(answer) + 1) for answer, _, total in ends]
        going = [item for item in grown if item[1] != model.special.end][:size]
        active = [([*answer, token], total) for answer, token, total in going]
        if len(active[0][0]) == limit:
            finished += [(answer, total, limit) for answer, total in active]
            active = []
        elif len(finished) >= size:
            active = []
    answer, total, count = max(finished, key=lambda item: item[1] / item[2])
    text = str(model.tokenizer.decode(answer, skip_special_tokens=True)).strip()
    return Generated(text, len(answer), total / count), rows


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_narrow_beam_equals_a_loop_over_all_continuations(seed: int, size: int) -> None:
    model = tiny_model("autoregressive", tokenizer=letter_tokenizer(), seed=seed)
    settings = GenerationSettings(beam_size=size, max_new_tokens=6)
    shapes = count_calls(model)
    for prompt in LETTER_PROMPTS:
        shapes.clear()
        (answer,) = generate(model, [prompt], settings).answers
        read = [tokens for _, tokens in shapes[1:]]
        expected, expected_rows = narrow_beam(model, prompt, size, 6)
        assert read == expected_rows[1:]
        assert (answer.text, answer.length) == (expected.text, expected.length)
        assert answer.score == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_kept_rows_give_what_reading_them_again_does(shape: str, beam_size: int) -> None:
    model = replace(model_of(shape), kind="autoregressive", length_predictor=None)
    settings = GenerationSettings(beam_size=beam_size, max_new_tokens=9, batch_tokens=600)
    shapes = count_calls(model)
    kept = generate(model, PROMPTS, settings)
    assert shapes[0][0] == 1
    # Another name of the same attention, which cannot keep anything.
    model.backbone.network.set_attn_implementation("sdpa")
    model.backbone.say = lambda note: None
    shapes.clear()
    again = generate(model, PROMPTS, settings)
    assert shapes[0][0] > 1
    assert [(a.text, a.length) for a in kept.answers] == [(a.text, a.length) for a in again.answers]
    assert len({round(a.score, 4) for a in kept.answers}) > 4, "prompts matter"
    scores = [answer.score for answer in again.answers]
    assert [answer.score for answer in kept.answers] == pytest.approx(scores, abs=1e-5)
    assert kept.network_calls == again.network_calls
