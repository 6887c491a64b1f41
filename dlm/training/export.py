"""Hand a finished stage on: choose the step, write the model directory, open it again."""

import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from dlm.callbacks.checkpoint import TrainingCheckpoint, damage, no_code_from, step_directories
from dlm.config.checks.data import task_of
from dlm.data.modules import RowsDataModule
from dlm.data.prompt_forms import PromptForm, prompt_forms
from dlm.distributed.portable import put_trained
from dlm.distributed.zero_strategy import ZeroStrategy
from dlm.errors import StageFailed
from dlm.generation.model import backbone_fingerprint, read_kind, write_kind
from dlm.models.build import load_backbone
from dlm.models.length_predictor import load_length_predictor
from dlm.models.lora import lora_merged
from dlm.models.sums import SUMS
from dlm.stages.base import TrainingStage
from dlm.stages.denoising import DenoisingStage
from dlm.stages.length import LengthPrediction
from dlm.tokens.text_form import form_of
from dlm.training.builders import build_stage
from dlm.training.data import build_canvas
from dlm.training.job import StageJob
from dlm.training.start import StartingPoint, starting_point


def export_stage(
    job: StageJob,
    start: StartingPoint,
    stage: TrainingStage,
    data: RowsDataModule,
    trainer: Trainer,
    checkpoint: TrainingCheckpoint,
) -> dict[str, Any]:
    """Write export/ from the chosen step and return what the manifest keeps of it."""
    step = checkpoint.best_step or job.config.train.steps
    if trainer.is_global_zero:
        if isinstance(trainer.strategy, ZeroStrategy):
            # What trained has its weights cut over the ranks, or in bf16.
            where = start.backbone.response_positions
            start = starting_point(job)
            start.backbone.response_positions = where
            stage = build_stage(job, start, data)
        load_step(stage, job.directory / "checkpoints", step)
        target = job.directory / "export"
        partial = job.directory / ".partial-export"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        if isinstance(stage, LengthPrediction):
            write_length_export(partial, job, start, stage)
        else:
            write_model_export(partial, job, start, stage, data)
        give_usual_modes(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    trainer.strategy.barrier("export")
    metrics: dict[str, Any] = {"steps": job.config.train.steps, "exported_step": step}
    if job.config.model.vocabulary.keep == "used" and start.cut is not None:
        metrics["vocabulary"] = len(start.cut.kept)
    if checkpoint.best_score is not None and checkpoint.monitor is not None:
        metrics["exported_by"] = checkpoint.chosen_by()
        metrics[checkpoint.monitor.replace("/", "_")] = round(checkpoint.best_score, 6)
    return metrics


def give_usual_modes(directory: Path) -> None:
    """Let files have the mode that the umask gives: safetensors makes its own readable by their
    owner alone, and models are read by colleagues and servers."""
    usual = directory / ".mode"
    usual.touch()
    mode = stat.S_IMODE(usual.stat().st_mode)
    usual.unlink()
    for path in directory.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def load_step(stage: TrainingStage, checkpoints: Path, step: int) -> None:
    """Put the weights of one checkpoint into the stage."""
    found = {saved.step: saved for saved in step_directories(checkpoints)}
    if step not in found:
        raise StageFailed(
            f"the checkpoint of step {step}, which is to be exported, is not in {checkpoints}: "
            f"move {checkpoints} away to train the stage anew"
        )
    # Only the newest one was read, and so verified, at a resume.
    if (problem := damage(found[step].directory)) is not None:
        raise StageFailed(
            f"the checkpoint of step {step}, which is to be exported, is damaged ({problem}): "
            f"move {checkpoints} away to train the stage anew"
        )
    with no_code_from(checkpoints):
        put_trained(stage, found[step].state)


def write_model_export(
    directory: Path,
    job: StageJob,
    start: StartingPoint,
    stage: TrainingStage,
    data: RowsDataModule,
) -> None:
    """A Hugging Face directory, opened again and compared tensor by tensor."""
    if job.config.lora.rank:
        beside = directory / "adapter" if job.config.lora.keep_adapter else None
        lora_merged(start.backbone, beside, start.name)
    start.backbone.save(directory)
    forms = () if job.config.kind == "pretrain" else prompt_forms(data.examples)
    _save_tokenizer(directory, start, forms)
    kind = "autoregressive" if job.config.kind == "autoregressive" else "diffusion"
    objective = stage.description if isinstance(stage, DenoisingStage) else "next token"
    write_kind(
        directory, kind, objective,  # type: ignore[arg-type]
        attention="prefix_causal" if kind == "autoregressive" else start.backbone.attention,
        shifted=start.backbone.shifted,
        response_positions=start.backbone.response_positions,
        canvas_length=canvas.length if (canvas := build_canvas(job.config)) else None,
        texts=kind == "autoregressive" and task_of(job.config) == "text",
        prompts=forms, text=form_of(start.tokenizer),
    )  # fmt: skip
    if start.cut is not None:
        start.cut.write(directory)
    trusted = job.config.model.trust_remote_code
    reopened = load_backbone(directory, trust_remote_code=trusted).state_dict()
    for name, tensor in start.backbone.state_dict().items():
        if not torch.equal(reopened[name], tensor.cpu()):
            raise StageFailed(f"the export in {directory} does not read back: {name} differs")


def _save_tokenizer(directory: Path, start: StartingPoint, forms: Sequence[PromptForm]) -> None:
    """With the chat template that the prompts were worded by, if they were conversations."""
    templates = filter(None, (form.chat_template() for form in forms))
    if (template := next(templates, None)) is not None:
        start.tokenizer.chat_template = template
    start.tokenizer.save_pretrained(directory)


def write_length_export(
    directory: Path, job: StageJob, start: StartingPoint, stage: LengthPrediction
) -> None:
    """The backbone as it is, and the predictor beside it: one directory that generates alone."""
    if start.directory is not None:
        for path in start.directory.iterdir():
            if path.is_file() and not path.name.startswith(("length_predictor", SUMS)):
                # Never a link: damage to one stage's file is not to be damage to two.
                shutil.copy2(path.resolve(), directory / path.name)
    else:
        start.backbone.save(directory)
        start.tokenizer.save_pretrained(directory)
        write_kind(
            directory, read_kind(directory), "unknown", attention=start.backbone.attention,
            shifted=start.backbone.shifted,
            response_positions=start.backbone.response_positions,
            text=form_of(start.tokenizer),
        )  # fmt: skip
    fingerprint = backbone_fingerprint(directory)
    stage.predictor.save(directory, fingerprint)
    reopened = load_length_predictor(directory, fingerprint).state_dict()
    for name, tensor in stage.predictor.state_dict().items():
        if not torch.equal(reopened[name], tensor.cpu()):
            raise StageFailed(f"the export in {directory} does not read back: {name} differs")
