"""A run's configuration: strict, typed, and the same in Python, YAML and flags.

```python
config = xenoglot.config.default_config()                                   # what `xenoglot train` does
config = xenoglot.config.read_config("run.yaml")                            # what `--config_path run.yaml` does
config = xenoglot.config.resolve({"languages": {"family": "markov"}})       # the same, from plain values
config = xenoglot.config.with_overrides(config, {"training.max_steps": 9})  # what `--training.max_steps 9` does
config.training.max_steps
xenoglot.config.write_config("config.yaml", config)                         # every option, explained
```

A section is a frozen dataclass (`RunConfig`, `ModelConfig`, ...), each option with its meaning, unit and limits, which
help, YAML comments, the schema and complaints are read off. `recipes` finds ready configurations, and
`schema.json_schema` describes the files to editors.
"""

from xenoglot.config.checkpointing import CheckpointingConfig
from xenoglot.config.data import DataConfig, DataLoaderConfig, DatasetConfig, TokenizerConfig
from xenoglot.config.files import read_config, write_config
from xenoglot.config.hub import HFCheckpointConfig
from xenoglot.config.layers import default_config, resolve, with_overrides
from xenoglot.config.learning_dynamics import LearningDynamicsConfig
from xenoglot.config.mappings import from_mapping, options_by_path, to_mapping
from xenoglot.config.sections import (
    EvaluationConfig,
    FabricConfig,
    LoggingConfig,
    ModelConfig,
    MonitoringConfig,
    OptimizationConfig,
    PalomaConfig,
    RunConfig,
    StageConfig,
    TrainingConfig,
    WandbConfig,
)
from xenoglot.config.smlmt import SMLMTConfig

__all__ = [
    "CheckpointingConfig",
    "DataConfig",
    "DataLoaderConfig",
    "DatasetConfig",
    "EvaluationConfig",
    "FabricConfig",
    "HFCheckpointConfig",
    "LearningDynamicsConfig",
    "LoggingConfig",
    "ModelConfig",
    "MonitoringConfig",
    "OptimizationConfig",
    "PalomaConfig",
    "RunConfig",
    "SMLMTConfig",
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
