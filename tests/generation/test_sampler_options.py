"""Sampler options on a real network: the same text in any batch, and clear refusals."""

from dataclasses import replace

import pytest
import torch
from tiny_generation import PROMPTS, FixedLengths, count_calls, random_predictor, tiny_model

from dlm.diffusion.sampling.guidance import Guided
from dlm.diffusion.sampling.network import EverySlot
from dlm.errors import UserError
from dlm.generation.diffusion import denoise_masks
from dlm.generation.generate import generate
from dlm.generation.generated import Generation
from dlm.generation.settings import GenerationSettings
from dlm.generation.slot_network import SlotRow
from dlm.models.positions import ResponsePositions

ITERATIONS = 4
SETTINGS = GenerationSettings(num_iterations=ITERATIONS, length_beam=2)
DRAWN = replace(SETTINGS, sampler="mdlm", num_iterations=6)


def texts(result: Generation) -> list[str]:
    return [answer.text for answer in result.answers]


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "mdlm"},
        {"sampler": "llada", "temperature": 1.5, "top_p": 0.9},
        {"sampler": "reparam-cond-stochastic0.5-linear"},
        {"sampler": "eb", "entropy_bound": 2.0},
        {"sampler": "fast-dllm", "threshold": 0.05},
        {"score": "random"},
        {"guidance": 1.5},
        {"sampler": "mask-predict"},
    ],
)
def test_the_text_does_not_depend_on_the_batch(options: dict[str, object]) -> None:
    model = tiny_model(predictor=random_predictor())
    settings = replace(SETTINGS, **options)  # type: ignore[arg-type]
    together = texts(generate(model, PROMPTS, settings))
    assert texts(generate(model, PROMPTS[::-1], settings))[::-1] == together
    alone = [
        texts(generate(model, [prompt], replace(settings, batch_tokens=1))) for prompt in PROMPTS
    ]
    assert [text for (text,) in alone] == together


def test_the_same_seed_gives_the_same_text_and_another_seed_another() -> None:
    model = tiny_model(predictor=random_predictor())
    first = texts(generate(model, PROMPTS, DRAWN))
    assert texts(generate(model, PROMPTS, DRAWN)) == first
    assert texts(generate(model, PROMPTS, replace(DRAWN, seed=1))) != first


def test_calls_are_counted_with_guidance_and_where_a_sampler_stops_early() -> None:
    model = tiny_model(predictor=FixedLengths(6))
    shapes = count_calls(model)
    guided_calls = generate(model, PROMPTS, replace(SETTINGS, guidance=1.0)).network_calls
    assert guided_calls == len(shapes) == 1 + 2 * ITERATIONS
    shapes.clear()
    early = replace(SETTINGS, sampler="fast-dllm", threshold=0.0, num_iterations=9)
    assert generate(model, PROMPTS, early).network_calls == len(shapes) == 2


def test_guidance_moves_logits_away_from_those_without_a_prompt() -> None:
    c, u = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, -1.0]]])
    got = Guided(EverySlot(lambda _: c), EverySlot(lambda _: u), 0.5).logits(torch.stack([c, u], 1))
    torch.testing.assert_close(got, u + 1.5 * (c - u))
    model = tiny_model(predictor=random_predictor())
    plain = texts(generate(model, PROMPTS, SETTINGS))
    assert texts(generate(model, PROMPTS, replace(SETTINGS, guidance=0.0))) == plain
    assert texts(generate(model, PROMPTS, replace(SETTINGS, guidance=4.0))) != plain


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("start", [None, 12])
@pytest.mark.parametrize("canvas", [False, True])
def test_guidance_masks_the_whole_prompt_unless_special_tokens_are_kept(
    keeps: bool, start: int | None, canvas: bool
) -> None:
    """One iteration by hand: the answer stands where it stood, without a prompt before it."""
    model = tiny_model()
    model.backbone.response_positions = ResponsePositions(start)
    special, prompt = model.special, model.heads(["the red fox"])[0]
    slots = SlotRow.behind(prompt, 3, special, ends=not canvas)
    row = slots.tokens
    settings = replace(SETTINGS, num_iterations=1, guidance=2.0, guidance_keeps_special=keeps)
    result = denoise_masks(model, [slots], settings, ends_itself=canvas)

    kept = {special.begin, special.end} if keeps else set()
    bare = [token if token in kept else special.mask for token in prompt] + row[len(prompt) :]
    response = torch.tensor([[place >= len(prompt) for place in range(len(row))]])
    c, u = (
        model.backbone.logits(
            model.backbone.hidden(
                torch.tensor([ids]), torch.ones_like(response), response_BL=response
            )
        )[0, len(prompt) : len(prompt) + 3]
        for ids in (row, bare)
    )
    logits = u + 3 * (c - u)
    logits[:, model.forbidden_ids_on_canvas if canvas else model.forbidden_ids] = -torch.inf
    assert result.tokens_BN[0].tolist() == logits.argmax(-1).tolist()
    expected = logits.log_softmax(-1).amax(-1).tolist()
    assert result.log_probability_BN[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_blocks_that_do_not_divide_a_length_are_refused_and_others_are_generated() -> None:
    blocks = replace(SETTINGS, block_length=4, length_beam=1)
    answers = generate(tiny_model(predictor=FixedLengths(8)), PROMPTS, blocks).answers
    assert {answer.length for answer in answers} == {8}
    with pytest.raises(
        UserError, match="a canvas of 6 tokens is not a whole number of blocks of 4"
    ):
        generate(tiny_model(predictor=FixedLengths(6)), PROMPTS, blocks)


def test_an_option_that_the_sampler_does_not_read_is_refused() -> None:
    model = tiny_model(predictor=random_predictor())
    with pytest.raises(
        UserError, match="threshold is not read by sampler 'llada': use 'fast-dllm'"
    ):
        generate(model, PROMPTS, replace(SETTINGS, sampler="llada", threshold=0.5))


def test_the_settings_beside_a_score_show_the_options_that_were_set() -> None:
    assert "seed" not in SETTINGS.shown("diffusion")
    shown = replace(DRAWN, temperature=0.5).shown("diffusion")
    assert (shown["temperature"], shown["seed"]) == (0.5, 0)
    assert "threshold" not in shown
