"""From configuration to plain objects: the last place that knows a config type."""

from typing import Any

from dlm.config.schema import ObjectiveConfig, StageConfig
from dlm.data.modules import CanvasSettings, RowsDataModule
from dlm.diffusion.noise import ForwardProcess
from dlm.diffusion.objective import Objective
from dlm.models.length_predictor import LengthPredictor
from dlm.stages.autoregressive import AutoregressiveTwin
from dlm.stages.base import TrainingStage
from dlm.stages.denoising import (
    DenoisingStage,
    DiffusiveAdaptation,
    InstructionTuning,
    MaskedLanguageModeling,
)
from dlm.stages.length import LengthPrediction
from dlm.stages.optimizer import OptimizerSettings
from dlm.training.job import StageJob
from dlm.training.start import StartingPoint

_CLASSES_MULTIPLE = 32

DENOISING_STAGES: dict[str, type[DenoisingStage]] = {
    "pretrain": MaskedLanguageModeling,
    "adapt": DiffusiveAdaptation,
    "instruct": InstructionTuning,
}


def length_classes(config: StageConfig, data: RowsDataModule) -> int:
    """Classes of a length predictor: as the recipe says, or as the longest response needs."""
    if config.length.max_response_length is not None:
        return config.length.max_response_length
    longest = data.longest_parts()
    tokens = longest.response - 1 if longest else 1
    return -(-tokens // _CLASSES_MULTIPLE) * _CLASSES_MULTIPLE


def build_objective(config: StageConfig) -> Objective:
    """The loss of a denoising stage."""
    objective = config.objective
    return Objective(
        weight=objective.weight,
        normaliser=objective.normaliser,
        label_smoothing=config.train.label_smoothing,
        num_timesteps=objective.num_timesteps,
        cart_p=objective.cart_p,
        zero_masking=zero_masking(objective),
    )


def zero_masking(objective: ObjectiveConfig) -> bool:
    """Whether the mask token has probability 0 in the loss: as the recipe says, else where the loss
    is to bound a likelihood."""
    given = objective.zero_masking
    return objective.weight == "elbo" if given is None else given


def build_forward_process(config: StageConfig) -> ForwardProcess:
    """The noise of a denoising stage."""
    objective = config.objective
    return ForwardProcess(
        time=objective.time,
        schedule=objective.schedule,
        times=objective.times or "coupled",
        num_timesteps=objective.num_timesteps,
        min_time=objective.min_time,
        rate_range=objective.rate_range,
        fixed_rate=objective.mask_rate,
    )


def warmup_steps(config: StageConfig) -> int:
    """Steps of warm-up; the paper's 1 % where the recipe says nothing."""
    given = config.optim.warmup_steps
    return max(1, config.train.steps // 100) if given is None else given


def build_stage(job: StageJob, start: StartingPoint, data: RowsDataModule) -> TrainingStage:
    """The LightningModule of a stage kind."""
    config = job.config
    common: dict[str, Any] = {
        "optimizer": OptimizerSettings(
            lr=config.optim.lr, steps=config.train.steps, betas=config.optim.betas,
            eps=config.optim.eps, weight_decay=config.optim.weight_decay,
            schedule=config.optim.schedule, warmup_steps=warmup_steps(config),
            final_lr_ratio=config.optim.final_lr_ratio,
        ),
        "seed": job.seed,
    }  # fmt: skip
    if config.kind == "length":
        length = config.length
        predictor = LengthPredictor(
            start.backbone.hidden_size,
            max_length=length_classes(config, data),
            num_heads=length.num_heads, dropout=length.dropout, relative=length.relative,
        )  # fmt: skip
        return LengthPrediction(
            start.backbone, predictor, label_smoothing=config.train.label_smoothing, **common
        )
    if config.kind == "autoregressive":
        return AutoregressiveTwin(
            start.backbone, label_smoothing=config.train.label_smoothing, **common
        )
    special_ids = set(start.tokenizer.all_special_ids)
    ordinary_ids = tuple(i for i in range(len(start.tokenizer)) if i not in special_ids)
    return DENOISING_STAGES[config.kind](
        start.backbone,
        forward_process=build_forward_process(config),
        objective=build_objective(config),
        mask_token_id=start.special.mask,
        replaceable_ids=ordinary_ids if config.objective.replace_80_10_10 else (),
        canvas=canvas_text(data.canvas),
        prompt_dropout=config.objective.prompt_dropout,
        **common,
    )


def canvas_text(canvas: CanvasSettings | None) -> str:
    """The canvas in words, as a part of the objective."""
    if canvas is None:
        return ""
    counts = "every end token counts" if canvas.count_padding else "only the first end token counts"
    return f"canvas of {canvas.length} tokens, {counts}"
