"""The recipe: what a person may write in YAML, with meaning, unit and default of every field.

Sections given at the top of a recipe are the defaults of every stage; a stage's own section wins.
Fields marked ``semantic=False`` (where and how often, never what) stay out of the fingerprint.
"""

from dlm.config.schema.data import (
    DataConfig,
    DataTask,
    FewShotConfig,
    HoldoutConfig,
    MixtureConfig,
    SourceConfig,
    TemplateConfig,
    TokenizerConfig,
)
from dlm.config.schema.evaluation import (
    EvaluationConfig,
    LikelihoodConfig,
    SystemConfig,
)
from dlm.config.schema.model import LoraConfig, ModelConfig, VocabularyConfig
from dlm.config.schema.recipe import (
    SECTIONS_OF_KIND,
    WITHOUT_MODEL,
    RecipeConfig,
    Sections,
    StageConfig,
    StageKind,
)
from dlm.config.schema.running import CheckpointConfig, HardwareConfig, LoggingConfig
from dlm.config.schema.training import (
    DEFAULT_BATCH_SIZE,
    LengthConfig,
    MetricName,
    ObjectiveConfig,
    OptimConfig,
    TrainConfig,
    ValidationConfig,
)

__all__ = [
    "DEFAULT_BATCH_SIZE",
    "SECTIONS_OF_KIND",
    "WITHOUT_MODEL",
    "CheckpointConfig",
    "DataConfig",
    "DataTask",
    "EvaluationConfig",
    "FewShotConfig",
    "HardwareConfig",
    "HoldoutConfig",
    "LengthConfig",
    "LikelihoodConfig",
    "LoggingConfig",
    "LoraConfig",
    "MetricName",
    "MixtureConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "RecipeConfig",
    "Sections",
    "SourceConfig",
    "StageConfig",
    "StageKind",
    "SystemConfig",
    "TemplateConfig",
    "TokenizerConfig",
    "TrainConfig",
    "ValidationConfig",
    "VocabularyConfig",
]
