"""Texts of the twin: the draws are those of its next-token distributions."""

from dataclasses import replace

import pytest
import torch
from tiny_generation import letter_tokenizer, tiny_model

from dlm.errors import UserError
from dlm.generation.generate import generate
from dlm.generation.lengths import settled
from dlm.generation.settings import GenerationSettings

SETTINGS = GenerationSettings(temperature=1.0, max_new_tokens=6, seed=2)


def test_first_tokens_are_drawn_as_the_network_says() -> None:
    model = tiny_model("autoregressive", tokenizer=letter_tokenizer(), texts=True)
    count = 2000
    answers = generate(model, [""] * count, replace(SETTINGS, max_new_tokens=1)).answers
    begin = torch.tensor([[model.special.begin]])
    with torch.inference_mode():
        hidden_BLH = model.backbone.hidden(
            begin, torch.ones_like(begin, dtype=torch.bool), attention="causal"
        )
        logits_V = model.backbone.logits(hidden_BLH[0, -1])
    logits_V = logits_V.index_fill(0, model.forbidden_ids_on_canvas, -torch.inf)
    ends = float(logits_V.softmax(-1)[model.special.end])
    share = sum(answer.length == 0 for answer in answers) / count
    assert abs(share - ends) < 4 * (ends * (1 - ends) / count) ** 0.5


def test_a_draw_belongs_to_its_place_and_seed_whatever_the_batch() -> None:
    model = tiny_model("autoregressive", texts=True)
    prompts = ["", "", "the red", "", "a dog sat"]
    texts = [answer.text for answer in generate(model, prompts, SETTINGS).answers]
    small = replace(SETTINGS, batch_tokens=20)
    assert [answer.text for answer in generate(model, prompts, small).answers] == texts
    assert len({texts[0], texts[1], texts[3]}) > 1
    other = generate(model, prompts, replace(SETTINGS, seed=3)).answers
    assert [answer.text for answer in other] != texts


def test_a_text_is_the_same_alone_and_among_others() -> None:
    model = tiny_model("autoregressive", texts=True)
    prompts = ["the red", "", "a dog sat", "", "the red"]
    texts = [answer.text for answer in generate(model, prompts, SETTINGS).answers]
    for prompt, text in zip(prompts[:3], texts, strict=False):
        alone = [answer.text for answer in generate(model, [prompt] * 2, SETTINGS).answers]
        assert alone[0] == text
        assert alone[1] != alone[0]
    assert texts[3:] == [generate(model, [prompt] * 2, SETTINGS).answers[1].text
                         for prompt in ("", "the red")]  # fmt: skip


def test_without_a_temperature_the_likeliest_text_is_searched_for() -> None:
    model = tiny_model("autoregressive", texts=True)
    settings = replace(SETTINGS, temperature=None, beam_size=1)
    one, other = generate(model, ["", ""], settings).answers
    assert one == other
    nearly = generate(model, [""], replace(SETTINGS, temperature=1e-4)).answers[0]
    assert nearly.text == one.text


def test_a_model_of_prompts_searches_whatever_the_temperature() -> None:
    model = tiny_model("autoregressive")
    assert settled(model, SETTINGS).temperature is None
    with pytest.raises(UserError, match="prompt 1 of 1 is empty"):
        generate(model, [""], SETTINGS)


def test_settings_that_decide_a_draw_are_shown() -> None:
    assert SETTINGS.shown("autoregressive") == {"temperature": 1.0, "seed": 2, "max_new_tokens": 6}
