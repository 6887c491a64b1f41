"""`train.precision` on a CPU: bfloat16 inside the network, float32 where it counts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from family_tools import run_family, write_family
from test_packed_steps import OPTIMIZER, batch, denoising, network

from dlm.errors import UserError
from dlm.models.length_predictor import LengthPredictor
from dlm.stages.length import LengthPrediction
from dlm.training.device import check_devices, check_precision


def test_the_loss_of_logits_in_bfloat16_is_computed_in_float32() -> None:
    """Autocast would see to it; a strategy that casts the whole network would not."""
    stage = denoising(network("bert", intermediate_size=32).eval())
    plain = stage.denoising_loss(batch(True, False), seed=0)
    logits = stage.backbone.logits
    stage.backbone.logits = lambda hidden: logits(hidden).bfloat16()  # type: ignore[method-assign]
    mixed = stage.denoising_loss(batch(True, False), seed=0)
    assert mixed.total.dtype == mixed.cross_entropy_M.dtype == torch.float32
    assert not torch.equal(mixed.cross_entropy_M.bfloat16().float(), mixed.cross_entropy_M)
    torch.testing.assert_close(mixed.total, plain.total, atol=0.01, rtol=0.01)


def test_the_length_predictors_loss_is_in_float32_too() -> None:
    backbone = network("bert", intermediate_size=32)
    predictor = LengthPredictor(16, max_length=20, num_heads=2)
    stage = LengthPrediction(backbone, predictor, label_smoothing=0.0, optimizer=OPTIMIZER, seed=0)
    stage._trainer = SimpleNamespace(accumulate_grad_batches=1, world_size=1)  # type: ignore[assignment]
    stage.log_training = lambda *_, **__: None  # type: ignore[method-assign]
    stage.predict = lambda batch: (  # type: ignore[method-assign]
        torch.randn(8, 20, dtype=torch.bfloat16), torch.arange(1, 9)
    )  # fmt: skip
    assert stage.training_step(batch(True, False), 0).dtype == torch.float32


def test_half_precision_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs a GPU, and there is none here: use bf16-mixed"):
        check_precision("16-mixed", "auto")
    check_precision("bf16-mixed", "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_precision("16-mixed", "auto")
    with pytest.raises(UserError, match="needs a GPU"):
        check_precision("16-mixed", "cpu")


def test_a_stage_refuses_it_before_it_reads_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    model = write_family(tmp_path / "model", "bert")
    (model / "model.safetensors").write_bytes(b"not read")
    half = ("train.precision=16-mixed", "hardware.accelerator=auto")
    assert run_family(model, tmp_path / "run", *half, stop="adapt") == 2
    assert "train.precision=16-mixed needs a GPU" in capsys.readouterr().err


def test_bfloat16_trains_on_a_cpu_with_weights_in_float32(tmp_path: Path) -> None:
    model = write_family(tmp_path / "model", "bert")
    mixed = ("train.precision=bf16-mixed", "stages.length=null", "stages.scores=null")
    assert run_family(model, tmp_path / "run", *mixed) == 0
    place = tmp_path / "run" / "01_adapt" / "checkpoints" / "step=00000006" / "state.ckpt"
    state = torch.load(place, weights_only=True)
    kept = [*state["state_dict"].values()]
    kept += [v for s in state["optimizer_states"][0]["state"].values() for v in s.values()]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


def test_gpus_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, remedy in ((0, "set hardware.accelerator=cpu"), (2, "set hardware.devices=2")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: there)
        with pytest.raises(UserError, match=f"this machine has {there} .*{remedy}"):
            check_devices("gpu", 4)
        check_devices("auto", 4)
    check_devices("gpu", None)
