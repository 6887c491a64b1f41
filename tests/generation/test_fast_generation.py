"""Fast generation against a plain one: padded rows, logits of every slot in every iteration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_generation import PROMPTS, FixedLengths, count_calls, tiny_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from dlm.diffusion.sampling import loop, samplers
from dlm.diffusion.sampling.network import EverySlot, Wanted
from dlm.diffusion.sampling.samplers import SAMPLERS
from dlm.errors import UserError
from dlm.generation import diffusion
from dlm.generation.generate import generate
from dlm.generation.generated import Generation
from dlm.generation.infill import infill, parse_infill
from dlm.generation.lengths import pad
from dlm.generation.model import GenerativeModel
from dlm.generation.prefix_network import ApproximateNetwork, PrefixNetwork, context_network
from dlm.generation.settings import GenerationSettings
from dlm.generation.slot_network import ContextNetwork
from dlm.models.attention.masks import response_of
from dlm.models.backbone import Backbone
from dlm.models.build import build_from_scratch
from dlm.models.positions import ResponsePositions

SETTINGS = GenerationSettings(num_iterations=5, length_beam=3)
SHAPES = ["bert", "xlm-roberta", "modernbert", "llama", "bert fixed", "xlm-roberta fixed",
          "modernbert fixed", "llama fixed"]  # fmt: skip


def model_of(shape: str, attention: Any = "bidirectional") -> GenerativeModel:
    """Random weights so large that every token changes every logit; "fixed" after the shape: its
    responses start at one position, and have a token type in BERT."""
    shape, _, fixed = shape.partition(" ")
    model = tiny_model(predictor=FixedLengths(6, 3, 11))
    if shape == "llama":
        config = AutoConfig.for_model(
            shape, vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, intermediate_size=32, max_position_embeddings=40,
        )  # fmt: skip
        made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        backbone = Backbone(made.eval())
    else:
        backbone = build_from_scratch(
            model.tokenizer, architecture=shape, hidden_size=16, num_layers=3, num_heads=2,
            intermediate_size=32, max_positions=40, dropout=0.0, seed=0,
        ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.3, generator=generator)
    backbone.attention, backbone.end_token_id = attention, model.special.end
    if fixed:
        backbone.response_positions = ResponsePositions(20, shape == "bert")
    if backbone._window is not None:
        backbone._window = 4
    return replace(model, backbone=backbone)


class PlainNetwork(EverySlot):
    """Padded rows, and logits of all their tokens."""

    def __init__(self, model: GenerativeModel, *, prompt_cache: int | None, **where: Any) -> None:
        self.context = ContextNetwork(model, **where)
        super().__init__(self.everything)
        self.vocab_size = self.context.vocab_size

    def everything(self, tokens_BN: Tensor) -> Tensor:
        own = self.context
        hidden_BLH = own.backbone.hidden(
            own.written(tokens_BN), own.valid_BL, response_BL=own.response_BL
        )
        logits_BLV = own.backbone.logits(hidden_BLH)
        index_BNV = own.place_BN[..., None].expand(-1, -1, logits_BLV.shape[-1])
        return logits_BLV.gather(1, index_BNV)


@contextmanager
def the_plain_way() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion, "context_network", PlainNetwork)
        for name, sampler in SAMPLERS.items():
            plain = replace(sampler.rule, reads=lambda canvas, _: canvas.slot_BN)
            patch.setitem(SAMPLERS, name, replace(sampler, rule=plain))
        patch.setattr(samplers.Sampler, "repeats", False)
        yield


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Without a look at the canvas in the loop."""
    denoise = loop.denoise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            diffusion, "denoise", lambda *given, **named: denoise(*given, **named, looks=False)
        )
        yield


def shown(result: Generation) -> list[Any]:
    return [
        (answer.text, answer.length, pytest.approx(answer.score, abs=1e-4),
         [(frame.token_ids, frame.noise, frame.returned) for frame in history])
        for answer, history in zip(result.answers, result.histories, strict=True)
    ]  # fmt: skip


def all_ways(model: GenerativeModel, settings: GenerationSettings) -> list[list[Any]]:
    with the_plain_way():
        plain = shown(generate(model, PROMPTS[:3], settings, record=True))
    ours = shown(generate(model, PROMPTS[:3], settings, record=True))
    with as_on_a_gpu():
        foreseen = shown(generate(model, PROMPTS[:3], settings, record=True))
    return [plain, ours, foreseen]


@pytest.mark.parametrize("sampler", [*SAMPLERS, "reparam-cond-stochastic0.5-cosine"])
def test_every_sampler_writes_what_the_plain_way_writes(sampler: str) -> None:
    plain, ours, foreseen = all_ways(
        model_of("xlm-roberta"), replace(SETTINGS, sampler=sampler, num_iterations=7)
    )
    assert plain == ours == foreseen


OPTIONS: list[dict[str, Any]] = [
    {},
    {"sampler": "llada"},
    {"sampler": "mdlm", "guidance": 1.0},
    {"sampler": "llada", "length": "canvas", "canvas_length": 12, "block_length": 4},
    {"sampler": "mask-predict", "length": "canvas", "canvas_length": 12, "end_last": True},
    {"sampler": "mdlm", "top_k": 5, "top_p": 0.9},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("attention", ["bidirectional", "prefix_lm"])
def test_every_architecture_writes_what_the_plain_way_writes(shape: str, attention: str) -> None:
    model = replace(model_of(shape, attention), canvas_length=12)
    for options in OPTIONS:
        plain, ours, foreseen = all_ways(model, replace(SETTINGS, **options))
        assert plain == ours == foreseen, options


@pytest.mark.parametrize("attention", ["bidirectional", "prefix_lm"])
@pytest.mark.parametrize("shape", ["modernbert", "modernbert fixed"])
@pytest.mark.parametrize("prompts", [None, ["a dog", "x"]])
def test_infilling_is_that_of_the_plain_way(
    shape: str, attention: str, prompts: list[str] | None
) -> None:
    model = model_of(shape, attention)
    texts = ["the [MASK:4] sat on [MASK:2]", "[MASK:3] mat"]
    templates = [parse_infill(text) for text in texts]
    with the_plain_way():
        plain = infill(model, templates, SETTINGS, prompts=prompts)
    ours = infill(model, templates, SETTINGS, prompts=prompts)
    assert [a.spans for a in ours.answers] == [a.spans for a in plain.answers]


def test_candidates_share_their_prompt_and_iterations_read_what_is_behind_it() -> None:
    model = model_of("xlm-roberta", "prefix_lm")
    shapes = count_calls(model)
    generate(model, [PROMPTS[2]], SETTINGS)
    prompt = shapes[0][1]
    assert shapes[1] == (1, prompt), "the prompt of all three candidates, once"
    assert shapes[2] == (1, 6 + 3 + 11 + 3), "three canvases with their ends"


def test_rows_in_which_nothing_can_change_are_left_out() -> None:
    model = tiny_model(predictor=FixedLengths(2))
    shapes = count_calls(model)
    settings = replace(SETTINGS, sampler="frozen-linear", num_iterations=10, length_beam=1)
    result = generate(model, PROMPTS[:1], settings)
    assert result.network_calls == len(shapes) == 1 + 2
    with as_on_a_gpu():
        assert generate(model, PROMPTS[:1], settings) == result


class Waits(TorchDispatchMode):
    """Counts what a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        by_truth = name in ("aten::index.Tensor", "aten::index_put_") and any(
            part is not None and part.dtype == torch.bool for part in args[1]
        )
        waits = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
        self.count += by_truth or name in waits
        return func(*args, **(kwargs or {}))


DETERMINISTIC = [name for name, sampler in SAMPLERS.items() if not sampler.rule.stops_early]


@pytest.mark.parametrize("sampler", [*DETERMINISTIC, "reparam-cond-stochastic0.5-cosine"])
def test_no_iteration_waits_for_a_gpu(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(predictor=FixedLengths(6, 3, 11))
    monkeypatch.setattr(Backbone, "packs", lambda self, device: False)
    lists, to_list = [0], Tensor.tolist

    def counted(tensor: Tensor) -> Any:
        lists[0] += 1
        return to_list(tensor)

    monkeypatch.setattr(Tensor, "tolist", counted)

    def waits(iterations: int) -> int:
        lists[0] = 0
        with as_on_a_gpu(), Waits() as mode:
            settings = replace(SETTINGS, sampler=sampler, num_iterations=iterations)
            generate(model, PROMPTS, settings)
        return mode.count + lists[0]

    assert waits(2) == waits(9) > 0


def test_the_count_of_waits_sees_a_look_at_the_canvas() -> None:
    with Waits() as mode:
        bool(torch.tensor([True]).any())
        torch.ones(3).nonzero()
        torch.ones(3)[torch.ones(3) > 0]
    assert mode.count >= 3


@pytest.mark.parametrize(
    ("attention", "said"),
    [("bidirectional", "rows are padded in generation, which is slower: "),
     ("prefix_lm", "prompts are computed again in every iteration: ")],
)  # fmt: skip
def test_what_cannot_be_fast_says_so_once_or_is_refused(attention: str, said: str) -> None:
    model = model_of("bert", attention)
    expected = generate(model, PROMPTS, SETTINGS)
    notes: list[str] = []
    model.backbone.say = notes.append
    model.backbone.network.set_attn_implementation("sdpa")
    result = generate(model, PROMPTS, SETTINGS)
    assert [answer.text for answer in result.answers] == [a.text for a in expected.answers]
    assert [note for note in notes if note.startswith(said)] == [
        f"{said}the network attends by sdpa, not sdpa"
    ]
    model.backbone.strict_speed = True
    with pytest.raises(UserError, match=r"hardware\.strict_speed: "):
        generate(model, PROMPTS, SETTINGS)


def test_masks_in_what_sees_itself_alone_are_computed_with_it() -> None:
    model = model_of("bert", "prefix_lm")
    special, tokens_BL = model.special, torch.tensor([[0, 4, 9, 2]])
    tokens_BL[0, [0, 1, 3]] = torch.tensor([special.begin, special.mask, special.end])
    every = torch.ones_like(tokens_BL, dtype=torch.bool)
    one = torch.tensor([[1]])
    response = response_of(tokens_BL, every, special.end)
    made = context_network(model, tokens_BL, every, [4], one, one > 0, response)
    assert type(made) is ContextNetwork
    answer = torch.cat([tokens_BL, torch.tensor([[special.mask, special.end]])], dim=1)
    every = torch.ones_like(answer, dtype=torch.bool)
    response = response_of(answer, every, special.end)
    behind = context_network(model, answer, every, [6], one * 4, one > 0, response)
    assert type(behind) is PrefixNetwork
    assert behind.states(one * 7, Wanted(one[0] * 0, None, None)).shape == (1, 16)


def approximate(model: GenerativeModel, rows: list[list[int]], every: int) -> ApproximateNetwork:
    """Of rows whose masks all stand next to each other."""
    tokens_BL, valid_BL = pad(rows, model)
    mask_BL = tokens_BL == model.special.mask
    slot_BN = torch.arange(int(mask_BL.sum(1).max()))[None] < mask_BL.sum(1, keepdim=True)
    place_BN = (~mask_BL).int().argsort(dim=1, stable=True)[:, : slot_BN.shape[1]]
    lengths = list(map(len, rows))
    where = (tokens_BL, valid_BL, lengths, place_BN, slot_BN)
    response_BL = response_of(tokens_BL, valid_BL, model.special.end)
    return ApproximateNetwork(model, *where, response_BL, every)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_prompt_that_is_kept_gives_the_same_states_while_the_canvas_stays(shape: str) -> None:
    model = model_of(shape)
    special, head = model.special, [model.special.begin, 9, 11, 7, 20, model.special.end]
    masks = [[special.mask] * count for count in (5, 1, 7)]
    rows = [[*head[:2], *masks[0], 6], [*head, *masks[1], special.end], [*head[:4], *masks[2]]]
    network = approximate(model, rows, every=2)
    tokens_BN = torch.full((3, 7), special.mask)
    slot_S = torch.tensor([0, 4, 7, 14, 20])
    exact = network.states(tokens_BN, Wanted(slot_S, None, None, 0))
    kept = network.states(tokens_BN, Wanted(slot_S, None, None, 1))
    torch.testing.assert_close(kept, exact, rtol=1e-4, atol=1e-4)
    some = Wanted(torch.tensor([0, 4, 14, 20]), [0, 2], torch.tensor([0, 2]), 1)
    torch.testing.assert_close(
        network.states(tokens_BN, some), exact[[0, 1, 3, 4]], rtol=1e-4, atol=1e-4
    )
    changed_BN = tokens_BN.clone()
    changed_BN[:, 0] = 8
    stale = network.states(changed_BN, Wanted(slot_S, None, None, 1))
    renewed = network.states(changed_BN, Wanted(slot_S, None, None, 2))
    assert not torch.allclose(stale, renewed, atol=1e-4)


def test_prompts_renewed_in_every_iteration_change_nothing() -> None:
    model = model_of("modernbert")
    expected = generate(model, PROMPTS, SETTINGS)
    result = generate(model, PROMPTS, replace(SETTINGS, prompt_cache=1))
    assert [a.text for a in result.answers] == [a.text for a in expected.answers]


@pytest.mark.parametrize(
    "options",
    [{"sampler": name} for name in ("rdm", "llada", "mask-predict", "left-to-right-linear")]
    + [
        {"sampler": "mdlm", "guidance": 1.0},
        {"sampler": "fast-dllm", "threshold": 0.2, "length": "canvas", "block_length": 4},
    ],
)
def test_an_approximated_prompt_alone_gets_what_it_gets_among_others(
    options: dict[str, Any],
) -> None:
    model = replace(model_of("xlm-roberta"), canvas_length=12)
    settings = replace(SETTINGS, **options, prompt_cache=3, num_iterations=8)
    among = generate(model, PROMPTS[:4], settings)
    alone = [generate(model, [prompt], settings).answers[0] for prompt in PROMPTS[:4]]
    assert [answer.text for answer in alone] == [answer.text for answer in among.answers]


def test_iterations_between_renewals_compute_the_canvas_alone() -> None:
    model = model_of("xlm-roberta")
    shapes = count_calls(model)
    settings = replace(SETTINGS, prompt_cache=2, num_iterations=4, length_beam=1)
    generate(model, [PROMPTS[2]], settings)
    prompt = shapes[0][1]
    whole, canvas = (1, prompt + 7), (1, 7)
    assert shapes[1:] == [whole, canvas, whole, canvas]


def test_prompts_that_are_exact_are_not_approximated() -> None:
    with pytest.raises(UserError, match=r"prompt_cache = 4: .* computed once anyway; remove it"):
        generate(model_of("bert", "prefix_lm"), PROMPTS, replace(SETTINGS, prompt_cache=4))


def test_an_approximation_is_shown_beside_a_score() -> None:
    assert replace(SETTINGS, prompt_cache=4).shown("diffusion")["prompt_cache"] == 4
    assert "prompt_cache" not in SETTINGS.shown("diffusion")
