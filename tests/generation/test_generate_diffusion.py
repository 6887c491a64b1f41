"""Prompts to text by diffusion: against a loop over one canvas, and whatever else is asked for."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_generation import PROMPTS, FixedLengths, count_calls, random_predictor, tiny_model
from transformers import XLMRobertaTokenizer

from dlm.data.rows.encoding import encode_prompts
from dlm.errors import UserError
from dlm.generation.diffusion import denoise_masks
from dlm.generation.generate import generate
from dlm.generation.generated import Generated, Generation
from dlm.generation.infill import infill, parse_infill
from dlm.generation.lengths import candidate_lengths
from dlm.generation.likelihood import conditional_bounds, rolling_bounds
from dlm.generation.model import GenerativeModel
from dlm.generation.scored_rows import LikelihoodSettings
from dlm.generation.settings import GenerationSettings
from dlm.generation.slot_network import SlotRow

ITERATIONS = 4
SETTINGS = GenerationSettings(num_iterations=ITERATIONS, length_beam=4)


@torch.no_grad()
def decode_one(model: GenerativeModel, prompt: str, length: int, iterations: int) -> Generated:
    """reparam-uncond, cosine, argmax: one canvas, the Hugging Face model's own logits."""
    (head,) = encode_prompts(model.tokenizer, [prompt])
    forbidden = model.tokenizer.all_special_ids
    mask, end = model.special.mask, model.special.end
    tokens, log_p, noise = [mask] * length, [0.0] * length, set(range(length))
    for m in range(1, iterations + 1):
        row = torch.tensor([[*head, *tokens, end]])
        logits = model.backbone.network(input_ids=row).logits[0, len(head) : -1].double()
        logits[:, forbidden] = -math.inf
        score, choice = logits.log_softmax(-1).max(-1)
        count = (
            0 if m == iterations else math.floor(length * math.cos(math.pi * m / 2 / iterations))
        )
        lowest = set(sorted(range(length), key=lambda i: (score[i].item(), i))[:count])
        for i in range(length):
            if i in lowest:
                tokens[i], log_p[i] = mask, 0.0
            elif i in noise:
                tokens[i], log_p[i] = int(choice[i]), score[i].item()
        noise = lowest
    text = str(model.tokenizer.decode(tokens, skip_special_tokens=True)).strip()
    return Generated(text, length, sum(log_p) / length)


def close(got: Generated, expected: Generated) -> bool:
    same = (got.text, got.length) == (expected.text, expected.length)
    return same and math.isclose(got.score, expected.score, abs_tol=1e-4)


@pytest.mark.parametrize("iterations", [1, 2, 5, 12])
def test_answers_equal_a_loop_over_one_canvas(iterations: int) -> None:
    model = tiny_model()
    references = ["der hund", "ein", "ein roter fuchs lief", "a dog sat on a mat"] * 2
    settings = GenerationSettings(length="oracle", num_iterations=iterations)
    result = generate(model, PROMPTS, settings, references=references)
    for prompt, reference, answer in zip(PROMPTS, references, result.answers, strict=True):
        length = len(model.tokenizer(reference, add_special_tokens=False)["input_ids"])
        assert close(answer, decode_one(model, prompt, length, iterations))
    assert len({answer.text for answer in result.answers}) > 4


def test_of_all_candidate_lengths_the_best_mean_log_probability_is_kept() -> None:
    lengths = (6, 3, 11, 8)
    model = tiny_model(predictor=FixedLengths(*lengths))
    result = generate(model, PROMPTS, SETTINGS)
    chosen = set()
    for prompt, answer in zip(PROMPTS, result.answers, strict=True):
        candidates = [decode_one(model, prompt, n, ITERATIONS) for n in lengths]
        assert close(answer, max(candidates, key=lambda c: c.score))
        chosen.add(answer.length)
    assert len(chosen) > 1, "the example should not always prefer the same length"


def test_joint_reranking_adds_the_lengths_probability_to_that_of_all_tokens() -> None:
    lengths = (6, 3, 11, 8)
    model = tiny_model(predictor=FixedLengths(*lengths))
    result = generate(model, PROMPTS, replace(SETTINGS, rerank="joint"))
    prompt_ids = encode_prompts(model.tokenizer, PROMPTS)
    choices, _ = candidate_lengths(model, prompt_ids, None, SETTINGS)
    differs = False
    for prompt, row, answer in zip(PROMPTS, choices, result.answers, strict=True):
        decoded = [decode_one(model, prompt, c.length, ITERATIONS) for c in row]
        joint = [
            replace(d, score=d.score * d.length + c.log_probability)
            for d, c in zip(decoded, row, strict=True)
        ]
        assert close(answer, max(joint, key=lambda c: c.score))
        differs |= answer.length != max(decoded, key=lambda c: c.score).length
    assert differs, "the example should tell the two ways of reranking apart"


def test_a_length_beam_of_one_decodes_the_predictors_first_choice() -> None:
    model = tiny_model(predictor=FixedLengths(6, 3, 11))
    answers = generate(model, PROMPTS, replace(SETTINGS, length_beam=1)).answers
    assert {answer.length for answer in answers} == {6}


def texts(result: Generation) -> list[str]:
    return [answer.text for answer in result.answers]


@pytest.mark.parametrize(
    "sampler", ["reparam-uncond-deterministic-linear", "frozen-cosine", "frozen-linear"]
)
@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_batch_size_does_not_change_the_text(sampler: str, batch_tokens: int) -> None:
    model = tiny_model(predictor=random_predictor())
    settings = replace(SETTINGS, sampler=sampler)
    expected = generate(model, PROMPTS, settings)
    got = generate(model, PROMPTS, replace(settings, batch_tokens=batch_tokens))
    assert texts(got) == texts(expected)


def test_a_prompt_alone_gets_the_text_it_gets_among_others_in_any_order() -> None:
    model = tiny_model(predictor=random_predictor())
    among = texts(generate(model, PROMPTS, SETTINGS))
    assert texts(generate(model, PROMPTS[::-1], SETTINGS)) == among[::-1]
    assert [texts(generate(model, [prompt], SETTINGS))[0] for prompt in PROMPTS] == among


def test_generating_twice_gives_the_same_and_leaves_the_global_generator_alone() -> None:
    model = tiny_model(predictor=random_predictor())
    before = torch.get_rng_state()
    first = generate(model, PROMPTS, SETTINGS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    assert generate(model, PROMPTS, SETTINGS) == first


def test_network_calls_are_counted_and_keep_to_the_budget_of_tokens() -> None:
    model = tiny_model(predictor=random_predictor())
    shapes = count_calls(model)
    result = generate(model, PROMPTS, replace(SETTINGS, batch_tokens=80))
    assert result.network_calls == len(shapes)
    assert all(rows * width <= 80 for rows, width in shapes)
    assert len(shapes) > ITERATIONS * 4


def test_one_batch_costs_one_call_an_iteration() -> None:
    model = tiny_model()
    settings = GenerationSettings(length="oracle", num_iterations=7)
    assert generate(model, PROMPTS, settings, references=PROMPTS).network_calls == 7


def test_special_tokens_and_unknown_rows_of_the_output_layer_are_forbidden() -> None:
    model = tiny_model()
    model.backbone.network.resize_token_embeddings(len(model.tokenizer) + 3)
    size = len(model.tokenizer)
    assert set(model.forbidden_ids.tolist()) == {0, 1, 2, 3, 4, size, size + 1, size + 2}


@pytest.mark.parametrize("kind", ["diffusion", "autoregressive"])
@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_prompt_is_refused_by_its_number(kind: str, empty: str) -> None:
    model = tiny_model(kind, predictor=random_predictor())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="prompt 2 of 3 is empty"):
        generate(model, ["a", empty, "b"], SETTINGS)


@pytest.mark.parametrize("kind", ["diffusion", "autoregressive"])
def test_no_prompts_give_no_answers_and_no_calls(kind: str) -> None:
    model = tiny_model(kind, predictor=random_predictor())  # type: ignore[arg-type]
    assert generate(model, [], SETTINGS) == Generation([], 0)


LONG_PROMPTS = {"over": "the red fox ran " * 20, "all": "x " * 5}


@pytest.mark.parametrize("length", ["oracle", "predicted"])
@pytest.mark.parametrize("kind", ["diffusion", "autoregressive"])
@pytest.mark.parametrize("prompt", LONG_PROMPTS.values(), ids=LONG_PROMPTS)
def test_a_prompt_that_leaves_no_room_is_refused(kind: str, length: str, prompt: str) -> None:
    """Longer than the model's positions, or just filling them."""
    tokens = len(encode_prompts(tiny_model().tokenizer, [LONG_PROMPTS["all"]])[0])
    model = tiny_model(kind, predictor=random_predictor(), max_positions=tokens + 1)  # type: ignore[arg-type]
    settings = replace(SETTINGS, length=length)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="leaves no room for an answer"):
        generate(model, ["a", prompt], settings, references=["a", "a"])


@pytest.mark.parametrize("kind", ["diffusion", "autoregressive"])
def test_a_prompt_that_leaves_room_for_one_token_is_answered(kind: str) -> None:
    tokens = len(encode_prompts(tiny_model().tokenizer, [LONG_PROMPTS["all"]])[0])
    model = tiny_model(kind, predictor=random_predictor(), max_positions=tokens + 2)  # type: ignore[arg-type]
    (answer,) = generate(model, [LONG_PROMPTS["all"]], SETTINGS).answers
    assert answer.length <= 1


def test_an_unknown_sampler_is_refused() -> None:
    model = tiny_model(predictor=random_predictor())
    with pytest.raises(UserError, match="did you mean 'frozen-cosine'"):
        generate(model, PROMPTS, replace(SETTINGS, sampler="frozen-cosin"))


SPELLED = ["hello <mask> fox", "<mask>", "a </s> dog", "<s>x</s><s>y", "the <pad> red <mask></s>"]


def unigram_model() -> GenerativeModel:
    """XLM-R's kind of tokenizer: special pieces stand in its vocabulary."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *"▁abcdefghijklmnopqrstuvwxyz<>/", "▁the", "▁fox"]
    vocabulary = [(piece, -float(rank > 3)) for rank, piece in enumerate(pieces)]
    tokenizer = XLMRobertaTokenizer(vocab=[*vocabulary, ("<mask>", 0.0)])
    return tiny_model(tokenizer=tokenizer, max_positions=90)


def test_a_prompt_that_spells_special_tokens_is_text_and_no_slot() -> None:
    model = replace(unigram_model(), length_predictor=FixedLengths(3))  # type: ignore[arg-type]
    generated = generate(model, SPELLED, replace(SETTINGS, length_beam=1))
    for prompt, answer in zip(SPELLED, generated.answers, strict=True):
        expected = decode_one(model, prompt, 3, ITERATIONS)
        assert (answer.text, answer.length) == (expected.text, 3)
        assert answer.score == pytest.approx(expected.score, abs=1e-5)


def test_slots_and_the_prompts_end_are_places_whatever_the_ids_say() -> None:
    """Mask and end tokens in the prompt: nothing in dlm writes them, and they would be kept."""
    model = tiny_model()
    special, seen = model.special, []
    odd = [special.begin, 9, special.end, special.mask, 11, special.end]
    row = SlotRow.behind(odd, 4, special)
    hidden = model.backbone.hidden

    def spy(tokens_BL: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        seen.append((tokens_BL.clone(), options["response_BL"]))
        return hidden(tokens_BL, *rest, **options)

    model.backbone.hidden = spy  # type: ignore[method-assign]
    result = denoise_masks(model, [row], SETTINGS)
    assert result.tokens_BN.shape == (1, 4)
    assert not torch.isin(result.tokens_BN, model.forbidden_ids).any()
    for tokens_BL, response_BL in seen:
        assert tokens_BL[0, :6].tolist() == odd
        assert response_BL[0].tolist() == [False] * 6 + [True] * 5
    assert row.frame == [0, 5, 10]
    assert SlotRow.behind([special.begin], 2, special).response is None
    assert SlotRow.behind(odd, 4, special, ends=False).frame == [0, 5]


def test_infilled_text_that_spells_special_tokens_stays_as_it_is() -> None:
    model = unigram_model()
    for text in SPELLED:
        template = parse_infill(f"{text} [MASK:2] fox {text}")
        (answer,) = infill(model, [template], SETTINGS).answers
        (prompted,) = infill(model, [template], SETTINGS, prompts=[text]).answers
        for found in (answer, prompted):
            assert found.text.startswith(text) and found.text.endswith(f" fox {text}")
            assert math.isfinite(found.score)


@pytest.mark.parametrize("estimator", ["exactly_l", "chain_rule"])
def test_the_likelihood_of_text_that_spells_special_tokens_is_finite(estimator: Any) -> None:
    model = unigram_model()
    settings = LikelihoodSettings(estimator, samples=4)
    bounds = [
        *conditional_bounds(model, SPELLED, SPELLED, settings),
        *rolling_bounds(model, SPELLED, settings),
    ]
    assert all(math.isfinite(bound.nats.value) for bound in bounds)
