"""Causal language models go through the whole chain, and come out as diffusion models."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from family_tools import CAUSAL, Finished, export_of, run_family, write_family
from lightning import Callback, Trainer
from resume_tools import StopAt, with_callbacks
from torch import Tensor
from transformers import AutoModelForCausalLM

from dlm.errors import UserError
from dlm.generation.generate import generate
from dlm.generation.model import open_model
from dlm.generation.settings import GenerationSettings
from dlm.models.backbone import Backbone
from dlm.tokens.special import SpecialTokens

PROMPTS = ["one hundred", "two"]
every_family = pytest.mark.parametrize("family", CAUSAL)

pytestmark = pytest.mark.slow


def description(export: Path) -> dict[str, Any]:
    return json.loads((export / "dlm.json").read_text())


@every_family
def test_the_export_says_what_it_is_and_generates_alone(finished: Finished, family: str) -> None:
    for stage in ("adapt", "length"):
        said = description(export_of(finished(family), stage))
        assert (said["kind"], said["attention"], said["shifted"]) == (
            "diffusion", "bidirectional", True,
        )  # fmt: skip
    model = open_model(export_of(finished(family), "length"))
    assert model.backbone.causal and model.length_predictor is not None
    settings = GenerationSettings(num_iterations=3, length_beam=2)
    answers = generate(model, PROMPTS, settings).answers
    assert [bool(answer.length) for answer in answers] == [True, True]
    assert answers == generate(model, PROMPTS, settings).answers
    (alone,) = generate(model, PROMPTS[:1], settings).answers
    assert alone.text == answers[0].text


@every_family
@torch.no_grad()
def test_transformers_opens_the_export_to_the_same_logits(finished: Finished, family: str) -> None:
    export = export_of(finished(family), "length")
    ours = open_model(export)
    plain = AutoModelForCausalLM.from_pretrained(export, attn_implementation="sdpa").eval()
    tokens = torch.tensor([[ours.special.begin, 40, 41, ours.special.mask, ours.special.end]])
    valid = torch.ones_like(tokens).bool()
    everything = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    expected = plain(input_ids=tokens, attention_mask=everything).logits
    got = ours.backbone.logits(ours.backbone.hidden(tokens, valid))
    torch.testing.assert_close(got[:, 1:], expected[:, :-1], atol=1e-5, rtol=1e-5)
    assert ours.backbone.vocab_size >= len(ours.tokenizer)


@every_family
def test_the_mask_token_is_said_once_and_learnt(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "model", family)
    assert run_family(model, tmp_path / "run", stop="adapt") == 0
    added = "<mask>" if family == "qwen2" else "<mask> and <pad>"
    out = capsys.readouterr().out
    assert f"adapt: {added} added to the tokenizer, with random embeddings" in out
    assert "unknown to the tokenizer" not in out
    assert run_family(model, tmp_path / "run", stop="length") == 0
    assert "added to the tokenizer" not in capsys.readouterr().out
    mask = SpecialTokens.of(open_model(export_of(tmp_path / "run", "adapt")).tokenizer).mask
    state = tmp_path / "run" / "01_adapt" / "checkpoints"
    first, last = (
        torch.load(state / f"step={step:08d}" / "state.ckpt", weights_only=True)["state_dict"]
        for step in (4, 6)
    )
    name = next(n for n in first if n.endswith(("wte.weight", "embed_tokens.weight")))
    assert not torch.equal(first[name][mask], last[name][mask])


def masks_given(backbone: Backbone) -> list[Tensor]:
    """The attention masks of every call of the network from now on."""
    seen: list[Tensor] = []

    def note(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        seen.append(keywords["attention_mask"])

    backbone.network.base_model.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def test_prefix_lm_is_kept_with_the_export_and_generation_hides_the_response_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_family(tmp_path / "model", "llama")
    assert run_family(model, tmp_path / "run", "model.attention=prefix_lm") == 0
    for stage in ("adapt", "length"):
        assert description(export_of(tmp_path / "run", stage))["attention"] == "prefix_lm"
    opened = open_model(export_of(tmp_path / "run", "length"))
    assert opened.backbone.attention == "prefix_lm"
    settings = GenerationSettings(num_iterations=1, length_beam=1)
    with_kept_prompts = generate(opened, PROMPTS[:1], settings)
    # Where prompts are not kept, they are documents of their own, and where rows are padded, a
    # mask says who sees whom; the answer is the same.
    monkeypatch.setattr(Backbone, "caches_prompts", lambda self, device: False)
    with_documents = generate(opened, PROMPTS[:1], settings)
    assert with_documents.answers[0].text == with_kept_prompts.answers[0].text
    monkeypatch.setattr(Backbone, "packs", lambda self, device: False)
    seen = masks_given(opened.backbone)
    with_masks = generate(opened, PROMPTS[:1], settings)
    assert with_masks.answers[0].text == with_kept_prompts.answers[0].text
    prompt = seen[0].shape[-1]  # the length predictor reads the prompt alone
    assert seen[0].all()
    canvas = seen[1][0, 0]
    assert len(canvas) > prompt + 1 and canvas[prompt - 1 :].all()
    assert canvas[: prompt - 1, : prompt - 1].all() and not canvas[: prompt - 1, prompt - 1 :].any()


def test_a_stage_that_changes_the_attention_of_what_it_starts_from_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "model", "qwen2")
    again = "  again: {kind: adapt, init_from: adapt}"
    assert run_family(model, tmp_path / "run", "stages.adapt.model={attention: prefix_lm}",
                      "stages.length=null", "stages.scores=null", more=again) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "again: attention changes from prefix_lm" in out
    assert description(export_of(tmp_path / "run", "again"))["attention"] == "bidirectional"


def weights(run_dir: Path) -> bytes:
    return (export_of(run_dir, "adapt") / "model.safetensors").read_bytes()


class RecordFuture(Callback):
    """What the network is shown of a response's future: the share of later keys, each step."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.seen = masks_given(pl_module.backbone)

    def on_train_batch_end(self, *args: Any) -> None:
        square = self.seen[0][:, 0].float()
        later = torch.ones(square.shape[-2:]).triu(1)
        self.shares.append(float((square * later).sum() / later.sum() / len(square)))
        self.seen.clear()


def test_annealing_opens_the_future_step_by_step(tmp_path: Path) -> None:
    model, record = write_family(tmp_path / "model", "gpt2"), RecordFuture()
    with with_callbacks(record):
        assert run_family(
            model, tmp_path / "run", "model.attention_annealing_steps=5", stop="adapt"
        ) == 0  # fmt: skip
    assert record.shares[0] == 0.0
    assert sorted(record.shares[:5]) == record.shares[:5] and record.shares[5] > 0.6


def test_annealed_training_is_resumed_to_the_bit_and_differs_from_unannealed(
    finished: Finished, tmp_path: Path
) -> None:
    model = write_family(tmp_path / "model", "gpt2")
    annealing = "model.attention_annealing_steps=5"
    assert run_family(model, tmp_path / "whole", annealing, stop="adapt") == 0
    with with_callbacks(StopAt(3)):
        assert run_family(model, tmp_path / "cut", annealing, stop="adapt") == 3
    assert run_family(model, tmp_path / "cut", annealing, stop="adapt") == 0
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole") != weights(finished("gpt2"))


@pytest.mark.slow
def test_what_is_bidirectional_already_is_not_annealed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "model", "gpt2")
    again = "  again: {kind: instruct, init_from: adapt, data: {task: translation}}"
    assert run_family(model, tmp_path / "run", "model.attention_annealing_steps=5",
                      "stages.length=null", "stages.scores=null", more=again) == 0  # fmt: skip
    assert "again: the model it starts from is bidirectional already" in capsys.readouterr().out


def test_annealing_a_masked_language_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "model", "bert")
    assert run_family(model, tmp_path / "run", "model.attention_annealing_steps=5") == 2
    expected = "type 'bert' is bidirectional from the start; set it to 0"
    assert expected in capsys.readouterr().err


def test_annealing_beyond_the_last_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"more than train\.steps = 6: attention would not become"):
        run_family(tmp_path, tmp_path / "run", "model.attention_annealing_steps=7")


def test_a_length_predictor_of_a_model_that_was_not_adapted_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "model", "llama")
    assert run_family(model, tmp_path / "run", "stages.adapt=null", "stages.scores=null",
                      f"stages.length.init_from={model}") == 2  # fmt: skip
    said = capsys.readouterr().err
    assert "has no pad and no mask token" in said and "adapt a causal one first" in said


@pytest.mark.parametrize(
    "family", ["gpt2", *(pytest.param(name, marks=pytest.mark.slow) for name in CAUSAL[1:])]
)
def test_the_autoregressive_twin_of_a_causal_model_trains_and_generates(
    family: str, tmp_path: Path
) -> None:
    model = write_family(tmp_path / "model", family)
    twin = "  twin: {kind: autoregressive, generation: {beam_size: 2, max_new_tokens: 6}}\n"
    assert run_family(model, tmp_path / "run", "stages.length=null", "stages.scores=null",
                      "stages.adapt=null", more=twin) == 0  # fmt: skip
    export = export_of(tmp_path / "run", "twin")
    assert description(export)["attention"] == "prefix_causal"
    opened = open_model(export)
    answers = generate(opened, PROMPTS, GenerationSettings(beam_size=2, max_new_tokens=6)).answers
    assert len(answers) == 2 and all(answer.length <= 6 for answer in answers)
