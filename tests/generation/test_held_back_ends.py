"""min_length and end_penalty: no answer is shorter, and logits are what the penalty leaves."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_generation import PROMPTS as ALL_PROMPTS
from tiny_generation import FixedLengths, tiny_model

from dlm.data.rows.encoding import encode_prompts
from dlm.diffusion.sampling.draws import DrawKey
from dlm.diffusion.sampling.ends import HeldBack
from dlm.diffusion.sampling.loop import denoise
from dlm.diffusion.sampling.samplers import SAMPLERS, get_sampler
from dlm.errors import UserError
from dlm.generation.generate import generate
from dlm.generation.generated import Generation
from dlm.generation.infill import infill, parse_infill
from dlm.generation.lengths import settled
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings

CANVAS, PROMPTS = 12, ALL_PROMPTS[:4]
SETTINGS = GenerationSettings(num_iterations=4)
WAYS: list[dict[str, Any]] = [
    *({"sampler": name} for name in SAMPLERS),
    *({"sampler": name, "block_length": 4} for name in ("rdm", "mdlm", "llada", "fast-dllm", "eb")),
    {"sampler": "llada", "end_last": True},
    {"sampler": "llada", "temperature": 1.5, "score": "random"},
    {"guidance": 1.0},
    {"prompt_cache": 2},
]


def model_with_end(bias: float, kind: Any = "diffusion", **options: Any) -> GenerativeModel:
    """A random model that likes the end token as much as ``bias`` says."""
    model = tiny_model(kind, **options)
    with torch.no_grad():
        model.backbone.network.lm_head.bias[model.special.end] = bias
    return model if kind != "diffusion" else replace(model, canvas_length=CANVAS)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_no_answer_is_shorter_whatever_the_sampler_and_the_batch(way: dict[str, Any]) -> None:
    model = model_with_end(90)
    settings = replace(SETTINGS, **way)
    assert {a.length for a in generate(model, PROMPTS, settings).answers} == {0}
    asked = replace(settings, min_length=5)
    among = generate(model, PROMPTS, asked)
    assert {a.length for a in among.answers} == {5}, "the end comes where it may"
    assert all(math.isfinite(a.score) for a in among.answers)
    alone = [generate(model, [prompt], asked).answers[0] for prompt in PROMPTS]
    assert [(a.text, a.length) for a in alone] == [(a.text, a.length) for a in among.answers]
    small = generate(model, PROMPTS, replace(asked, batch_tokens=60))
    assert [a.text for a in small.answers] == [a.text for a in among.answers]
    full = generate(model, PROMPTS, replace(settings, min_length=CANVAS))
    assert {a.length for a in full.answers} == {CANVAS} and full.without_end == len(PROMPTS)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_penalty_is_a_bias_of_the_end_token(way: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **way)
    penalised = generate(model_with_end(9), PROMPTS, replace(settings, end_penalty=7.0))
    biased = generate(model_with_end(2), PROMPTS, settings)
    shown = [[(a.text, a.length) for a in one.answers] for one in (penalised, biased)]
    assert shown[0] == shown[1]
    for got, expected in zip(penalised.answers, biased.answers, strict=True):
        assert got.score == pytest.approx(expected.score, abs=1e-4)


def test_nothing_held_back_is_what_there_was() -> None:
    assert HeldBack.of(3, 0, 0.0) is None
    model = model_with_end(2)
    plain = generate(model, PROMPTS, SETTINGS, record=True)
    assert generate(model, PROMPTS, replace(SETTINGS, end_penalty=0.0), record=True) == plain
    assert not {"min_length", "end_penalty"} & set(settled(model, SETTINGS).shown("diffusion"))


def test_the_number_of_a_slot_counts_the_slots_of_its_row_alone() -> None:
    """Rows begin at different columns of the canvas."""
    slot_BN = torch.tensor([[True] * 4, [False, True, True, True]])
    logits = torch.zeros(2, 4, 5)
    logits[..., 3] = 8.0
    found = denoise(
        lambda _: logits, slot_BN, sampler=get_sampler("llada"), num_iterations=2, mask_token_id=4,
        forbidden_ids=torch.tensor([4]), end_token_id=3, min_length=2,
        key=DrawKey(0, torch.arange(2)),
    )  # fmt: skip
    assert found.tokens_BN.tolist() == [[0, 0, 3, 3], [4, 0, 0, 3]]


def test_held_back_logits_worked_by_hand() -> None:
    logits_SV = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    kept = logits_SV.clone()
    applied = HeldBack(2, min_length=1, penalty=0.5).applied(logits_SV, torch.tensor([0, 1, 2]))
    assert applied.tolist() == [[1.0, 2.0, -math.inf], [4.0, 5.0, 5.5], [7.0, 8.0, 8.5]]
    assert torch.equal(logits_SV, kept)


def test_without_an_end_token_there_is_nothing_to_hold_back() -> None:
    with pytest.raises(ValueError, match="min_length and end_penalty are read where answers end"):
        HeldBack.of(None, 2, 0.0)


def test_predicted_lengths_are_at_least_so_long() -> None:
    model = tiny_model(predictor=FixedLengths(2, 7, 1, 5))

    def lengths(least: int, beam: int) -> set[int]:
        settings = replace(SETTINGS, length_beam=beam, min_length=least)
        return {answer.length for answer in generate(model, PROMPTS, settings).answers}

    assert lengths(0, 1) == lengths(2, 1) == {2}
    assert lengths(3, 1) == {7}
    assert lengths(3, 2) <= {5, 7}
    assert lengths(6, 50) <= set(range(6, 41))
    same = replace(SETTINGS, length_beam=2, min_length=1)
    assert generate(model, PROMPTS, same) == generate(model, PROMPTS, replace(same, min_length=0))


def answers_of_twin(least: int, penalty: float = 0.0, **options: Any) -> Generation:
    model = model_with_end(30, "autoregressive", texts="temperature" in options)
    settings = GenerationSettings(
        max_new_tokens=8, min_length=least, end_penalty=penalty, **options
    )
    among = generate(model, PROMPTS, settings)
    if "temperature" not in options:  # there a draw belongs to a text's place in the list
        alone = [generate(model, [prompt], settings).answers[0].text for prompt in PROMPTS]
        assert alone == [answer.text for answer in among.answers]
    return among


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"beam_size": 3}, {"temperature": 1.0}])
def test_the_twin_writes_no_shorter_answer(options: dict[str, Any]) -> None:
    assert {a.length for a in answers_of_twin(0, **options).answers} == {0}
    assert {a.length for a in answers_of_twin(3, **options).answers} == {3}
    assert {a.length for a in answers_of_twin(8, **options).answers} == {8}
    assert {a.length for a in answers_of_twin(0, 90.0, **options).answers} == {8}


def test_given_lengths_are_not_changed() -> None:
    model = model_with_end(2)
    asked = replace(SETTINGS, min_length=9, end_penalty=3.0)
    oracle = replace(asked, length="oracle")
    plain = replace(SETTINGS, length="oracle")
    assert settled(model, oracle) == settled(model, plain)
    got = generate(model, PROMPTS, oracle, references=PROMPTS)
    assert got == generate(model, PROMPTS, plain, references=PROMPTS)
    template = parse_infill("the [MASK:2] ran")
    assert infill(model, [template], asked) == infill(model, [template], SETTINGS)


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        (model_with_end(2), {}, "min_length = 41: no answer can be so long, the canvas is 12"),
        (tiny_model("autoregressive"), {"max_new_tokens": 5}, "max_new_tokens is 5 tokens"),
        (tiny_model(predictor=FixedLengths(2)), {}, "length predictor is 40 tokens"),
    ],
)
def test_a_least_length_that_cannot_be_is_refused(
    model: GenerativeModel, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        generate(model, PROMPTS, replace(SETTINGS, min_length=41, **settings))


def test_a_prompt_that_leaves_no_room_for_the_least_length_is_refused() -> None:
    model = tiny_model(predictor=FixedLengths(2))
    (head,) = encode_prompts(model.tokenizer, [PROMPTS[0]])
    room = model.backbone.room_behind(len(head)) - 1
    fits = generate(model, PROMPTS[:1], replace(SETTINGS, min_length=room))
    assert fits.answers[0].length == room
    with pytest.raises(UserError, match=r"at least .* tokens in .*lower generation\.min_length"):
        generate(model, PROMPTS[:1], replace(SETTINGS, min_length=room + 1))


def test_what_holds_ends_back_stands_beside_the_score() -> None:
    asked = replace(SETTINGS, min_length=3, end_penalty=1.5)
    for kind in ("diffusion", "autoregressive"):
        shown = settled(model_with_end(2, kind), asked).shown(kind)
        assert (shown["min_length"], shown["end_penalty"]) == (3, 1.5)
