"""A run's configuration: strict, typed, and the same in Python, YAML and flags."""

from xenoglot.config.files import read_config, write_config
from xenoglot.config.layers import default_config, resolve, with_overrides
from xenoglot.config.mappings import from_mapping, options_by_path, to_mapping
from xenoglot.config.sections import (
    CheckpointingConfig,
    DataConfig,
    DataLoaderConfig,
    DatasetConfig,
    EvaluationConfig,
    FabricConfig,
    LoggingConfig,
    ModelConfig,
    MonitoringConfig,
    OptimizationConfig,
    PalomaConfig,
    RunConfig,
    StageConfig,
    TokenizerConfig,
    TrainingConfig,
    WandbConfig,
)

__all__ = [
    "CheckpointingConfig",
    "DataConfig",
    "DataLoaderConfig",
    "DatasetConfig",
    "EvaluationConfig",
    "FabricConfig",
    "LoggingConfig",
    "ModelConfig",
    "MonitoringConfig",
    "OptimizationConfig",
    "PalomaConfig",
    "RunConfig",
    "StageConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "WandbConfig",
    "default_config",
    "from_mapping",
    "options_by_path",
    "read_config",
    "resolve",
    "to_mapping",
    "with_overrides",
    "write_config",
]
