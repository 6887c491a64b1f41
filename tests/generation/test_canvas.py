"""Answers that end themselves: against a loop over one canvas, in any batch, with every sampler."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_generation import PROMPTS, FixedLengths, count_calls, tiny_model

from dlm.data.rows.encoding import encode_prompts
from dlm.diffusion.sampling.samplers import SAMPLERS
from dlm.errors import UserError
from dlm.evaluation.evaluate import check_system
from dlm.evaluation.generated_texts import check_generation, score_generation
from dlm.evaluation.results import Result
from dlm.evaluation.table import markdown_table
from dlm.evaluation.task_rows import TaskRows
from dlm.evaluation.tasks import load_task
from dlm.generation.empty import empty_answers, empty_note, in_use
from dlm.generation.generate import generate
from dlm.generation.generated import Generated, Generation
from dlm.generation.infill import infill, parse_infill
from dlm.generation.lengths import settled
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings

CANVAS = 12
SETTINGS = GenerationSettings(num_iterations=4)

SHOWN = {"generation": {"kind": "diffusion", "num_iterations": 4, "length": "canvas",
                        "canvas_length": CANVAS}, "scores": {}}  # fmt: skip
ROWS = TaskRows(load_task("numbers_en_de"), ["a"], ["b"])


def canvas_model(end_bias: float = 2.0, **options: Any) -> GenerativeModel:
    """A random model that likes the end token as much as ``end_bias`` says."""
    model = replace(tiny_model(**options), canvas_length=CANVAS)
    with torch.no_grad():
        model.backbone.network.lm_head.bias[model.special.end] = end_bias
    return model


@torch.no_grad()
def decode_one(model: GenerativeModel, prompt: str, iterations: int) -> tuple[Generated, bool]:
    """reparam-uncond, cosine, argmax on one canvas; the answer, and whether it has an end."""
    (head,) = encode_prompts(model.tokenizer, [prompt])
    mask, end = model.special.mask, model.special.end
    forbidden = [token for token in model.tokenizer.all_special_ids if token != end]
    tokens, log_p, noise = [mask] * CANVAS, [0.0] * CANVAS, set(range(CANVAS))
    for m in range(1, iterations + 1):
        logits = model.backbone.network(input_ids=torch.tensor([[*head, *tokens]])).logits
        logits = logits[0, len(head) :].double()
        logits[:, forbidden] = -math.inf
        score, choice = logits.log_softmax(-1).max(-1)
        count = math.floor(CANVAS * math.cos(math.pi * m / 2 / iterations)) if m < iterations else 0
        lowest = set(sorted(range(CANVAS), key=lambda i: (score[i].item(), i))[:count])
        for i in range(CANVAS):
            if i in lowest:
                tokens[i], log_p[i] = mask, 0.0
            elif i in noise:
                tokens[i], log_p[i] = int(choice[i]), score[i].item()
        noise = lowest
    answer = tokens[: tokens.index(end)] if end in tokens else tokens
    scored = log_p[: len(answer) + (end in tokens)]
    text = str(model.tokenizer.decode(answer, skip_special_tokens=True)).strip()
    return Generated(text, len(answer), sum(scored) / len(scored)), end in tokens


@pytest.mark.parametrize("iterations", [1, 3, 8])
def test_answers_equal_a_loop_over_one_canvas_cut_at_its_first_end(iterations: int) -> None:
    model = canvas_model()
    result = generate(model, PROMPTS, replace(SETTINGS, num_iterations=iterations))
    expected = [decode_one(model, prompt, iterations) for prompt in PROMPTS]
    for got, (answer, _) in zip(result.answers, expected, strict=True):
        assert (got.text, got.length) == (answer.text, answer.length)
        assert got.score == pytest.approx(answer.score, abs=1e-4)
    assert result.without_end == sum(not ended for _, ended in expected)
    assert len({answer.length for answer in result.answers}) > 2


def test_answers_without_an_end_fill_the_canvas_and_are_counted() -> None:
    result = generate(canvas_model(end_bias=-30), PROMPTS, SETTINGS)
    assert {answer.length for answer in result.answers} == {CANVAS}
    assert result.without_end == len(PROMPTS)


def test_an_answer_may_be_empty() -> None:
    result = generate(canvas_model(end_bias=90), PROMPTS[:2], SETTINGS)
    assert [(a.text, a.length, a.score) for a in result.answers] == [("", 0, 0.0)] * 2
    assert result.without_end == 0


def test_empty_answers_are_counted_beside_the_scores_and_said_where_most_are() -> None:
    rows = TaskRows(load_task("numbers_en_de"), PROMPTS[:2], ["eins", "zwei"])
    figures = score_generation(canvas_model(end_bias=90), rows, SETTINGS).figures
    assert (figures["empty_answers"], figures["answers_without_end"]) == (2, 0)
    some = score_generation(canvas_model(end_bias=-90), rows, SETTINGS).figures
    assert "empty_answers" not in some
    shown = Result("s", "t", {"rows": 2, **SHOWN, **figures}, [])
    assert figures["length_ratio"] == 0.0 and some["length_ratio"] > 1
    table = markdown_table([shown], [])
    assert "2 of 2 answers are empty (0.00 of the references' tokens)" in table
    filled = Result("s", "t", {"rows": 2, **SHOWN, **some}, [])
    assert "2 of 2 answers fill the canvas without an end" in markdown_table([filled], [])
    said = empty_note(empty_answers(["", " ", "a"]), 3, on_canvas=True)
    assert said is not None and said.startswith("2 of 3 answers are empty: the end of a canvas")
    assert "objective.canvas_padding=first_end_only" in said
    assert "canvas" not in str(empty_note(1, 1, on_canvas=False))
    tried = in_use(GenerationSettings(end_last=True, block_length=4))
    left = str(empty_note(1, 1, on_canvas=True, in_use=tried))
    assert "min_length" in left and not {"end_last", "block_length"} & set(re.findall(r"\w+", left))
    assert "oracle" not in str(empty_note(1, 1, on_canvas=False, references=False))
    assert empty_note(1, 2, on_canvas=True) is None and empty_note(0, 0, on_canvas=True) is None


@pytest.mark.parametrize("block_length", [None, 4])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_leaves_no_mask_and_no_other_special_token(
    sampler: str, block_length: int | None
) -> None:
    model = canvas_model()
    settings = replace(SETTINGS, sampler=sampler, block_length=block_length)
    result = generate(model, PROMPTS, settings, record=True)
    ordinary = set(range(len(model.tokenizer))) - set(model.tokenizer.all_special_ids)
    for answer, history in zip(result.answers, result.histories, strict=True):
        tokens, noise = history[-1].token_ids, history[-1].noise
        assert len(tokens) == CANVAS and not any(noise)
        assert set(tokens) <= ordinary | {model.special.end}
        before_end = [*tokens, model.special.end].index(model.special.end)
        assert answer.length == before_end


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sampler": "llada", "block_length": 4},
        {"sampler": "llada", "end_last": True},
        {"sampler": "mdlm", "block_length": 3},
        {"sampler": "fast-dllm", "threshold": 0.2, "block_length": 4},
        {"sampler": "eb", "entropy_bound": 2.0, "block_length": 6},
        {"sampler": "reparam-cond-stochastic0.5-cosine", "block_length": 4},
        {"guidance": 1.0, "block_length": 6},
        {"canvas_length": 7},
    ],
)
def test_a_prompt_alone_gets_what_it_gets_among_others(options: dict[str, Any]) -> None:
    model = canvas_model()
    settings = replace(SETTINGS, **options)

    def shown(result: Generation) -> list[tuple[Any, ...]]:
        """Text, length and every step of each canvas."""
        return [
            (a.text, a.length, [(f.token_ids, f.noise, f.returned) for f in history])
            for a, history in zip(result.answers, result.histories, strict=True)
        ]

    among = generate(model, PROMPTS, settings, record=True)
    alone = [generate(model, [prompt], settings, record=True) for prompt in PROMPTS]
    assert [row for one in alone for row in shown(one)] == shown(among)
    assert sum(one.without_end for one in alone) == among.without_end
    assert shown(generate(model, PROMPTS[::-1], settings, record=True))[::-1] == shown(among)
    small = generate(model, PROMPTS, replace(settings, batch_tokens=60), record=True)
    assert shown(small) == shown(among)
    assert len({answer.length for answer in among.answers}) > 1


def test_blocks_save_the_calls_behind_the_last_end() -> None:
    model = canvas_model(end_bias=90)
    shapes = count_calls(model)
    blocks = replace(SETTINGS, sampler="llada", block_length=4)
    assert generate(model, PROMPTS, blocks).network_calls == len(shapes) == 4
    assert generate(canvas_model(end_bias=-30), PROMPTS, blocks).network_calls == 3 * 4


def test_a_model_with_a_canvas_and_no_length_predictor_uses_its_canvas() -> None:
    model = canvas_model()
    chosen = settled(model, SETTINGS)
    assert (chosen.length, chosen.canvas_length) == ("canvas", CANVAS)
    assert settled(model, replace(SETTINGS, canvas_length=20)).canvas_length == 20
    assert settled(model, replace(SETTINGS, length="oracle")).length == "oracle"
    assert settled(tiny_model(), SETTINGS).length == "predicted"
    assert settled(tiny_model("autoregressive"), SETTINGS) == SETTINGS


def test_a_length_predictor_comes_before_the_canvas_that_its_backbone_was_trained_with() -> None:
    model = canvas_model(predictor=FixedLengths(3))
    assert settled(model, SETTINGS).length == "predicted"
    plain = replace(model, canvas_length=None)
    assert generate(model, PROMPTS, SETTINGS) == generate(plain, PROMPTS, SETTINGS)
    asked = replace(SETTINGS, length="canvas")
    assert generate(model, PROMPTS, asked) == generate(canvas_model(), PROMPTS, SETTINGS)


def test_settings_beside_a_score_show_the_canvas_and_no_length_beam() -> None:
    shown = settled(canvas_model(), replace(SETTINGS, end_last=True)).shown("diffusion")
    assert (shown["length"], shown["canvas_length"], shown["end_last"]) == ("canvas", CANVAS, True)
    assert not {"length_beam", "rerank"} & set(shown)
    assert not {"canvas_length", "end_last"} & set(
        settled(tiny_model(), SETTINGS).shown("diffusion")
    )


def test_a_model_that_was_not_trained_with_a_canvas_is_refused_with_the_remedy() -> None:
    asked = replace(SETTINGS, length="canvas")
    with pytest.raises(UserError, match=r"not trained with a canvas.* train it with data\.canvas"):
        generate(tiny_model(), PROMPTS, asked)
    with pytest.raises(UserError, match="task numbers_en_de: this model was not trained with"):
        check_system("mine", tiny_model(), asked, [ROWS])


def test_predicted_lengths_of_a_canvas_model_without_a_predictor_name_the_canvas() -> None:
    with pytest.raises(UserError, match=r"no length predictor: .*, or generation\.length=canvas"):
        generate(canvas_model(), PROMPTS, replace(SETTINGS, length="predicted"))


def test_a_canvas_that_is_not_a_whole_number_of_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="a canvas of 12 tokens is not a whole number of blocks of"):
        check_system("mine", canvas_model(), replace(SETTINGS, block_length=5), [ROWS])


def test_ends_are_set_last_only_where_they_are_set() -> None:
    """A recipe's default for all its systems must not stop those that have no canvas."""
    model, asked = canvas_model(), replace(SETTINGS, end_last=True, canvas_length=8)
    oracle = settled(model, replace(asked, length="oracle"))
    assert oracle == replace(SETTINGS, length="oracle")
    same = generate(model, PROMPTS, oracle, references=PROMPTS)
    assert generate(model, PROMPTS, replace(asked, length="oracle"), references=PROMPTS) == same
    template = parse_infill("the [MASK:2] ran")
    assert infill(model, [template], asked) == infill(model, [template], SETTINGS)


def test_a_prompt_behind_which_the_canvas_does_not_fit_is_refused_by_its_row() -> None:
    prompts = ["a", "the red fox ran"]
    lengths = [len(ids) for ids in encode_prompts(tiny_model().tokenizer, prompts)]
    fits = canvas_model(max_positions=max(lengths) + CANVAS)
    assert fits.backbone.max_length == max(lengths) + CANVAS
    assert len(generate(fits, prompts, SETTINGS).answers) == 2
    model = canvas_model(max_positions=max(lengths) + CANVAS - 1)
    with pytest.raises(
        UserError, match="a canvas of 12 tokens does not fit behind it in the model"
    ):
        generate(model, prompts, SETTINGS)
    rows = TaskRows(load_task("numbers_en_de"), prompts, prompts)
    with pytest.raises(UserError) as refused:
        check_generation(model, rows, SETTINGS)
    said = f"row 2: a prompt of {max(lengths)} tokens and a canvas of 12 leaves no room"
    assert said in str(refused.value)
    assert "lower generation.canvas_length" in str(refused.value)
    check_generation(model, rows, replace(SETTINGS, canvas_length=11))
    check_generation(model, rows, replace(SETTINGS, length="oracle"))
