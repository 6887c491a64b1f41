"""`hardware.activation_checkpointing`: less memory, the same numbers."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from family_tools import export_of, run_family, write_family
from test_packed_steps import OPTIMIZER, batch, denoising, network
from torch import Tensor

from dlm.errors import UserError
from dlm.models.build import recompute_activations
from dlm.models.lora import LoraSettings, add_adapters
from dlm.stages.autoregressive import AutoregressiveTwin
from dlm.stages.base import TrainingStage

Make = Callable[[], TrainingStage]


def twin(model_type: str) -> TrainingStage:
    return AutoregressiveTwin(network(model_type), label_smoothing=0.1, optimizer=OPTIMIZER, seed=0)


def with_lora() -> TrainingStage:
    backbone = network("bert", intermediate_size=32)
    add_adapters(backbone.network, LoraSettings(2, dropout=0.1), seed=0)
    return denoising(backbone)


STAGES: dict[str, Make] = {
    "bert": lambda: denoising(network("bert", intermediate_size=32)),
    "xlm-roberta": lambda: denoising(network("xlm-roberta", intermediate_size=32)),
    "modernbert": lambda: denoising(
        network("modernbert", intermediate_size=32, pad_token_id=1, attention_dropout=0.1)
    ),
    "gpt2": lambda: denoising(network("gpt2")),
    "twin of bert": lambda: twin("bert"),
    "twin of gpt2": lambda: twin("gpt2"),
    "lora": with_lora,
}


def steps(stage: TrainingStage, packed: bool) -> tuple[list[Tensor], list[Tensor], int]:
    """Losses of three steps with dropout, the weights after them, and the most bytes that one of
    them kept for its backward pass."""
    stage._trainer = SimpleNamespace(accumulate_grad_batches=1, world_size=1)  # type: ignore[assignment]
    stage.log_training = lambda *_, **__: None  # type: ignore[method-assign]
    weights = [p for p in stage.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    losses, kept = [], 0
    for number in range(3):
        torch.manual_seed(number)
        storages: dict[int, int] = {}

        def keep(tensor: Tensor, storages: dict[int, int] = storages) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss: Any = stage.training_step(batch(True, packed), 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        kept = max(kept, sum(storages.values()))
    return losses, [weight.detach() for weight in weights], kept


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("name", STAGES)
def test_losses_and_weights_are_the_same_bit_by_bit(name: str, packed: bool) -> None:
    plain, recomputed = STAGES[name](), STAGES[name]()
    recompute_activations(recomputed.backbone.network)
    losses, weights, kept = steps(plain, packed)
    losses_again, weights_again, kept_again = steps(recomputed, packed)
    assert losses == losses_again and len(set(map(float, losses))) == 3
    assert all(torch.equal(a, b) for a, b in zip(weights, weights_again, strict=True))
    assert kept_again < kept


def test_a_network_that_is_not_written_for_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bert = network("bert", intermediate_size=32).network
    monkeypatch.setattr(type(bert), "supports_gradient_checkpointing", False)
    with pytest.raises(UserError, match="BertForMaskedLM does not support it; set it to false"):
        recompute_activations(bert)


@pytest.mark.slow
def test_a_stage_is_the_same_with_and_without_and_a_length_stage_ignores_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "model", "xlm-roberta")
    assert run_family(model, tmp_path / "plain", stop="adapt") == 0
    on = "hardware.activation_checkpointing=true"
    capsys.readouterr()
    assert run_family(model, tmp_path / "again", on, stop="length") == 0
    out = capsys.readouterr().out
    assert out.count("activation_checkpointing is ignored") == 1
    assert "length: hardware.activation_checkpointing is ignored" in out
    plain, again = (
        export_of(tmp_path / run, "adapt") / "model.safetensors" for run in ("plain", "again")
    )
    assert plain.read_bytes() == again.read_bytes()
