"""A recipe and its stages: the sections together."""

from dataclasses import dataclass, field
from typing import Any, Literal

from dlm.config.schema.data import DataConfig, TokenizerConfig
from dlm.config.schema.evaluation import EvaluationConfig
from dlm.config.schema.model import LoraConfig, ModelConfig
from dlm.config.schema.running import CheckpointConfig, HardwareConfig, LoggingConfig
from dlm.config.schema.training import (
    LengthConfig,
    ObjectiveConfig,
    OptimConfig,
    TrainConfig,
    ValidationConfig,
)
from dlm.generation.settings import GenerationSettings
from dlm.setting import where

StageKind = Literal[
    "tokenizer", "pretrain", "adapt", "length", "instruct", "autoregressive", "generate", "evaluate"
]
WITHOUT_MODEL = ("tokenizer", "generate", "evaluate")
"""Kinds whose result is no model."""


@dataclass(frozen=True)
class Sections:
    """The sections that a recipe gives as defaults and a stage refines."""

    data: DataConfig = field(default_factory=DataConfig)
    """Rows, prompts and responses."""
    tokenizer_training: TokenizerConfig = field(default_factory=TokenizerConfig)
    """Stage kind tokenizer."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The backbone, where it does not come from ``init_from``."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters in place of training every weight."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Noise and loss."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and schedule."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Steps and batches."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Scores during training."""
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    """Decoding."""
    length: LengthConfig = field(default_factory=LengthConfig)
    """Stage kind length."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Stage kind evaluate."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Resuming."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    """Devices, workers, strategy."""
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    """Logs and samples."""


@dataclass(frozen=True)
class StageConfig(Sections):
    """One stage of the chain."""

    kind: StageKind = "pretrain"
    """What the stage does. Required."""
    init_from: str | None = None
    """Weights (and tokenizer) to start from: an earlier stage, a Hugging Face directory or a hub
    name. None: the ``model`` section. Of kind generate: the model that writes."""
    tokenizer: str | None = None
    """Tokenizer of a model from scratch: an earlier stage, a directory or a hub name."""
    seed: int | None = None
    """Seed of this stage. Default: the recipe's."""
    description: str = where("")
    """One line for tables."""


@dataclass(frozen=True)
class RecipeConfig(Sections):
    """A recipe: defaults, and the chain of stages in order."""

    name: str = ""
    """Name of the recipe; its run directory is runs/<name>. Default: the file's name."""
    description: str = where("")
    """One line for tables."""
    seed: int = 0
    """Seed of every stage that does not set its own."""
    serve: str | None = where(None)
    """The stage that ``dlm generate RUN`` uses. Default: the last trained one."""
    sweep: dict[str, Any] = field(default_factory=dict, metadata={"semantic": False})
    """One run for every cell of a grid. Axis -> values: a setting and a list of its values,
    ``seed: [1, 2, 3]``, or any name and the named settings of each step, ``size: {small:
    {model.hidden_size: 64}, large: {model.hidden_size: 128, optim.lr: 5e-4}}``. Settings mean what
    they mean on the command line. A cell is an ordinary run in RUN_DIR/<cell>."""
    license: str | None = where(None)
    """Licence of the exported model, for its card: an identifier of the Hugging Face hub, e.g.
    apache-2.0. It is yours to choose, within what the data and the base model allow."""
    languages: list[str] = field(default_factory=list, metadata={"semantic": False})
    """Languages of the exported model, for its card, e.g. [en, de]."""
    stages: dict[str, StageConfig] = field(default_factory=dict)
    """The stages by name, in the order they run. ``null`` removes one that was inherited."""


SECTIONS_OF_KIND: dict[str, tuple[str, ...]] = {
    "tokenizer": ("data", "tokenizer_training"),
    "pretrain": ("data", "model", "lora", "objective", "optim", "train", "validation"),
    "adapt": (
        "data", "model", "lora", "objective", "optim", "train", "validation", "generation",
    ),
    "instruct": (
        "data", "model", "lora", "objective", "optim", "train", "validation", "generation",
    ),
    "length": ("data", "length", "optim", "train", "validation"),
    "autoregressive": ("data", "model", "lora", "optim", "train", "validation", "generation"),
    "generate": ("data", "generation"),
    "evaluate": ("evaluation", "generation"),
}  # fmt: skip
"""The sections that decide a stage of each kind; any other section set on it is refused
(checkpoint, hardware and logging are read by every kind)."""
