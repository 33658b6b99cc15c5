"""What a run can be told about its checkpoints: when they are saved, which are kept, what else goes with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from xenoglot.config.hub import HFCheckpointConfig
from xenoglot.config.learning_dynamics import LearningDynamicsConfig
from xenoglot.errors import OptionError
from xenoglot.options import check_options, option

__all__ = ["CheckpointingConfig"]


@dataclass(frozen=True, kw_only=True)
class CheckpointingConfig:
    """Where the run is kept, and what of it."""

    runs_dir: str = option("runs", "folder of all runs")
    run_name: str | None = option(None, "the run's folder in it; made of the time if none")
    auto_resume: bool = option(
        True, "whether a run of that name goes on from its newest valid checkpoint; an error if not"
    )
    save_every_n_steps: int = option(
        1000, "steps between checkpoints; the last step is always saved", unit="steps", minimum=1
    )
    save_early_steps: bool = option(False, "whether steps 1, 2, 4, 8, ... are saved too, and kept")
    save_in_background: bool = option(True, "whether training goes on while a checkpoint is being written")
    keep_last: int | None = option(None, "newest checkpoints that are kept; all if none", unit="checkpoints", minimum=1)
    keep_every_n_steps: int | None = option(
        None, "multiples of this many steps are kept whatever keep_last says", unit="steps", minimum=1
    )
    save_to_hf: bool = option(False, "whether each checkpoint is pushed to the Hub, as revision step-N of a repository")
    hf_checkpoint: HFCheckpointConfig = field(default_factory=HFCheckpointConfig)
    learning_dynamics: LearningDynamicsConfig = field(default_factory=LearningDynamicsConfig)

    def __post_init__(self) -> None:
        check_options(self)
        if self.run_name is not None and (not self.run_name.strip(".") or set("/\\\0") & set(self.run_name)):
            raise OptionError("run_name", self.run_name, "a plain folder name", "The folder it is in is runs_dir.")
        if self.save_to_hf and self.hf_checkpoint.repo_id is None:
            advice = "Name it: --checkpointing.hf_checkpoint.repo_id NAMESPACE/NAME"
            raise OptionError("save_to_hf", True, "false where no hf_checkpoint.repo_id says where to", advice)
