"""Ranks that share batches give what one process gives, to the last digit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rank_threads import run_ranks
from tiny_generation import PROMPTS, random_predictor, tiny_model

from dlm.distributed.share import ALONE, Share
from dlm.evaluation.progress import FILE, Progress
from dlm.generation.generate import generate
from dlm.generation.infill import infill, parse_infill
from dlm.generation.likelihood import conditional_bounds, multiple_choice, rolling_bounds
from dlm.generation.scored_rows import LikelihoodSettings
from dlm.generation.settings import GenerationSettings

DRAWN = GenerationSettings(
    sampler="reparam-uncond-deterministic-cosine", num_iterations=4, length_beam=3,
    temperature=1.0, seed=3, batch_tokens=48,
)  # fmt: skip
BOUNDS = LikelihoodSettings(samples=8, seed=5, batch_tokens=40)
LONG = [" ".join(PROMPTS), "the red fox ran", " ".join(reversed(PROMPTS)) * 2]


def _predicted(share: Share) -> Any:
    model = tiny_model(predictor=random_predictor())
    return generate(model, PROMPTS, DRAWN, share=share, record=True)


def _oracle_reranked(share: Share) -> Any:
    settings = replace(DRAWN, length="oracle", rerank="mbr")
    return generate(tiny_model(), PROMPTS, settings, references=PROMPTS[::-1], share=share)


def _canvas(share: Share) -> Any:
    model = replace(tiny_model(), canvas_length=8)
    return generate(model, PROMPTS, replace(DRAWN, length="canvas"), share=share, record=True)


def _beams(share: Share) -> Any:
    settings = GenerationSettings(beam_size=2, max_new_tokens=5, batch_tokens=200)
    return generate(tiny_model("autoregressive"), PROMPTS, settings, share=share)


def _infill(share: Share) -> Any:
    templates = [parse_infill(f"{prompt} [MASK:{n + 1}] ran") for n, prompt in enumerate(PROMPTS)]
    return infill(tiny_model(), templates, DRAWN, share=share)


def _pairs(share: Share) -> Any:
    return conditional_bounds(tiny_model(), PROMPTS, PROMPTS[::-1], BOUNDS, share=share)


def _choices(share: Share) -> Any:
    choices = [PROMPTS[:3]] * len(PROMPTS)
    return multiple_choice(tiny_model(), PROMPTS, choices, BOUNDS, share=share)


def _windows(share: Share) -> Any:
    return rolling_bounds(tiny_model(), LONG, BOUNDS, share=share)


@pytest.mark.parametrize(
    "made", [_predicted, _oracle_reranked, _canvas, _beams, _infill, _pairs, _choices, _windows]
)
def test_two_ranks_give_what_one_does(made: Callable[[Share], Any]) -> None:
    alone = made(ALONE)
    assert run_ranks(2, made) == [alone, alone]


def _kept(share: Share) -> Any:
    model = tiny_model(predictor=random_predictor())
    return generate(model, PROMPTS, DRAWN, share=share)


@pytest.mark.parametrize("made", [_kept, _beams, _pairs])
def test_two_ranks_go_on_with_what_one_process_wrote(
    made: Callable[[Share], Any], tmp_path: Path
) -> None:
    file, alone = tmp_path / FILE, made(ALONE)
    assert made(Progress(ALONE, file, "key")) == alone
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3]))  # two batches
    assert run_ranks(2, lambda star: made(Progress(star, file, "key"))) == [alone, alone]
    assert len(file.read_text().splitlines()) == len(lines)


def test_what_is_drawn_for_a_prompt_does_not_depend_on_the_others() -> None:
    model = tiny_model(predictor=random_predictor())
    together = generate(model, PROMPTS, DRAWN).answers
    apart = [generate(model, [prompt], DRAWN).answers[0] for prompt in PROMPTS]
    assert [answer.text for answer in together] == [answer.text for answer in apart]
    assert len({answer.text for answer in together}) > 4
    other_seed = generate(model, PROMPTS, replace(DRAWN, seed=4)).answers
    assert [a.text for a in other_seed] != [a.text for a in together]
