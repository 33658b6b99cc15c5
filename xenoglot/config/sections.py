"""What a run can be told: frozen sections of declared options.

Sections and keys are those of Pico-MAML's YAML wherever the meaning is the same; `languages`, a family's own options,
and `curriculum` are new.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xenoglot.config.checkpointing import CheckpointingConfig
from xenoglot.config.data import DataConfig
from xenoglot.config.smlmt import SMLMTConfig
from xenoglot.errors import OptionError, UnknownNameError
from xenoglot.languages import Family
from xenoglot.options import check_options, option, options_of

__all__ = [
    "EvaluationConfig",
    "FabricConfig",
    "LoggingConfig",
    "ModelConfig",
    "MonitoringConfig",
    "OptimizationConfig",
    "PalomaConfig",
    "RunConfig",
    "StageConfig",
    "TrainingConfig",
    "WandbConfig",
]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The sizes of a `Decoder`."""

    d_model: int = option(64, "width of the residual stream, D", minimum=2)
    n_layers: int = option(2, "blocks of attention and gated network", minimum=1)
    attention_n_heads: int = option(2, "query heads, H; divides d_model into even parts", minimum=1)
    attention_n_kv_heads: int = option(2, "key and value heads, K; divides attention_n_heads", minimum=1)
    activation_hidden_dim: int = option(128, "width inside the gated network", minimum=1)
    max_seq_len: int = option(256, "tokens of a row, and the most that the model can read", unit="tokens", minimum=1)
    vocab_size: int | None = option(None, "ids, V; those of the data if none", unit="ids", minimum=2)
    norm_eps: float = option(1e-6, "added to the mean square in norms", minimum=0, exclusive_minimum=True)
    position_emb_theta: float = option(10000.0, "base of the rotary frequencies", minimum=1)
    tie_word_embeddings: bool = option(False, "whether the output matrix is the embedding")
    attention: str = option(
        "causal", "whether a position gathers from those before it, or from all", choices=("causal", "bidirectional")
    )
    from_pretrained: str | None = option(
        None, "model that training begins from: a folder, or a name on the Hub; sizes that are not given are its own"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.d_model % (2 * self.attention_n_heads):
            raise OptionError(
                "d_model", self.d_model, f"a multiple of twice attention_n_heads, {2 * self.attention_n_heads}"
            )
        if self.attention_n_heads % self.attention_n_kv_heads:
            raise OptionError(
                "attention_n_kv_heads",
                self.attention_n_kv_heads,
                f"a divisor of attention_n_heads, {self.attention_n_heads}",
            )


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How a gradient becomes a step."""

    optimizer: str = option(
        "adamw", "adamw, or muon for the matrices inside the layers and adamw for the rest", choices=("adamw", "muon")
    )
    lr: float = option(1e-2, "highest learning rate", minimum=0)
    lr_scheduler: str = option(
        "cosine",
        "how the rate decays after the warm-up; constant decays linearly over the last lr_decay_ratio of the steps",
        choices=("cosine", "linear", "constant", "linear_with_warmup", "cosine_with_warmup"),
    )
    lr_warmup_steps: int = option(100, "steps over which the rate rises from zero", unit="steps", minimum=0)
    lr_decay_ratio: float = option(
        0.2, "share of the steps over which a constant rate decays at the end", minimum=0, maximum=1
    )
    lr_final_ratio: float = option(0.0, "rate at the last step, as a share of lr", minimum=0, maximum=1)
    weight_decay: float = option(0.1, "decay of matrices; norms and embeddings have none", minimum=0)
    beta1: float = option(0.9, "AdamW's memory of the gradient", minimum=0, maximum=0.999999)
    beta2: float = option(0.95, "AdamW's memory of its square", minimum=0, maximum=0.999999)
    muon_lr: float = option(2e-2, "highest learning rate of muon's matrices", minimum=0)
    gradient_clip_norm: float = option(
        1.0, "greatest Euclidean norm of all gradients together", minimum=0, exclusive_minimum=True
    )
    gradient_accumulation_steps: int = option(
        1, "parts into which a step's rows are cut, one after the other in memory", unit="parts", minimum=1
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class FabricConfig:
    """On what the run computes."""

    accelerator: str = option("auto", "kind of device", choices=("auto", "cpu", "cuda", "gpu", "mps"))
    num_devices: int = option(1, "devices of each machine, one process each", unit="devices", minimum=1)
    num_nodes: int = option(1, "machines", unit="machines", minimum=1)
    precision: str = option(
        "auto",
        "numbers that are computed with; auto is bf16-mixed where the device is made for it, else 32-true",
        choices=("auto", "32-true", "bf16-mixed", "bf16-true"),
    )
    strategy: str = option(
        "auto",
        "how several devices share: ddp copies the model, fsdp cuts it up; auto is ddp",
        choices=("auto", "ddp", "fsdp"),
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long and from which seed."""

    max_steps: int = option(1500, "optimizer steps, exactly", unit="steps", minimum=1)
    seed: int = option(0, "what all randomness of the run is derived from", minimum=0, maximum=2**63 - 1)
    compile: bool = option(False, "whether torch.compile makes the model faster, after a minute's work at the start")
    deterministic: bool = option(False, "whether CUDA may only use algorithms that repeat their results; slower")
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    fabric: FabricConfig = field(default_factory=FabricConfig)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class PalomaConfig:
    """Perplexity by domain, in Paloma's shape."""

    dataset_name: str | None = option(None, "dataset's name on the Hub, or a local folder with a file for each domain")
    dataset_split: str = option("val", "which part of the dataset")
    max_length: int | None = option(None, "tokens of a row; the model's if none", unit="tokens", minimum=2)
    batch_size: int = option(16, "rows measured at once", unit="rows", minimum=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How often and on how much the model is measured."""

    eval_every_n_steps: int = option(
        250, "steps between evaluations; before the first and after the last too", unit="steps", minimum=1
    )
    n_languages: int = option(256, "fresh languages of an evaluation, one row each", unit="languages", minimum=2)
    reference_predictors: bool = option(
        True, "whether the best learners who do not know the language are measured on the same rows, once"
    )
    epsilon_nats: float = option(
        0.1,
        "how near to the floor counts as having learned the language",
        unit="nats",
        minimum=0,
        exclusive_minimum=True,
    )
    paloma: PalomaConfig = field(default_factory=PalomaConfig)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is written down while training."""

    log_every_n_steps: int = option(10, "steps between lines of metrics.jsonl", unit="steps", minimum=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """Where Weights & Biases shows the run."""

    project: str = option("xenoglot", "project that the run belongs to")
    entity: str | None = option(None, "team or user that owns the project")
    offline: bool = option(True, "whether metrics stay on this machine until `wandb sync`")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class MonitoringConfig:
    """How the run is watched."""

    save_to_tensorboard: bool = option(False, "whether metrics go to TensorBoard files in the run's folder too")
    save_to_wandb: bool = option(False, "whether metrics go to Weights & Biases too")
    save_to_trackio: bool = option(False, "whether metrics go to trackio's local dashboard too")
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """An easier beginning: what differs from the rest of the run until a step is reached.

    Attributes:
        languages: Options of the family by name, where they differ.
    """

    until_step: int = option(1, "first step that no longer belongs to the stage", unit="steps", minimum=1)
    length: int | None = option(None, "tokens of a row; those of the model if none or more", unit="tokens", minimum=1)
    batch_size: int | None = option(None, "rows of a step; those of the run if none", unit="rows", minimum=1)
    languages: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on.

    Example:
        >>> RunConfig(data=DataConfig(text="book.txt")).training.max_steps
        1500
    """

    data: DataConfig = field(default_factory=DataConfig)
    languages: Family | None = None
    curriculum: tuple[StageConfig, ...] = ()
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    smlmt: SMLMTConfig = field(default_factory=SMLMTConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpointing: CheckpointingConfig = field(default_factory=CheckpointingConfig)
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)

    def __post_init__(self) -> None:
        self._check_what_is_learned()
        self._check_curriculum()
        if self.data.targets == "law":
            self._check_laws()
        self._check_parts()
        if self.smlmt.enabled:
            self._check_tasks()
        self._check_dynamics()
        longest, wanted = self.model.max_seq_len, self.evaluation.paloma.max_length
        if wanted is not None and wanted > longest:
            raise OptionError("evaluation.paloma.max_length", wanted, f"at most model.max_seq_len, {longest}, or none")

    def family_of(self, stage: StageConfig) -> Family:
        """Return the family of a stage: the run's own, with the stage's options.

        Raises:
            UnknownNameError: If an option is not one of the family's.
            OptionError: If a value is not allowed, or the stage would have ids that the run has not.
        """
        own = typing.cast(Family, self.languages)
        place = f"curriculum.{self.curriculum.index(stage)}.languages"
        declared = {f"{place}.{known.name}": known for known in options_of(own)}
        for name, value in stage.languages.items():
            path = f"{place}.{name}"
            if path not in declared:
                raise UnknownNameError("option", path, declared)
            dataclasses.replace(declared[path], name=path).check(value)
        family = dataclasses.replace(own, **stage.languages)
        if family.n_tokens > own.n_tokens:
            raise OptionError(place, dict(stage.languages), f"at most the run's own {own.n_tokens} ids")
        return family

    @property
    def step_sizes(self) -> dict[str, int]:
        """How many rows or tasks a step may have, by the option that says so."""
        sizes = {"data.dataloader.batch_size": self.data.dataloader.batch_size}
        for number, stage in enumerate(self.curriculum):
            if stage.batch_size is not None:
                sizes[f"curriculum.{number}.batch_size"] = stage.batch_size
        return sizes | ({"smlmt.tasks_per_step": self.smlmt.tasks_per_step} if self.smlmt.enabled else {})

    def _check_what_is_learned(self) -> None:
        given = [*self.data.sources, *(["languages"] if self.languages is not None else [])]
        if len(given) != 1:
            raise OptionError("data", given, "one thing to learn: a text, samples, a dataset, or else languages")
        if self.languages is None and self.data.n_languages is not None:
            raise OptionError("data.n_languages", self.data.n_languages, "none where no languages are drawn")
        if self.languages is None and self.data.targets != "words":
            raise OptionError("data.targets", self.data.targets, "words where no languages are drawn")
        if given[0] in ("languages", "data.samples") and self.data.tokenizer.name is not None:
            raise OptionError("data.tokenizer.name", self.data.tokenizer.name, "none where no text is learned")

    def _check_curriculum(self) -> None:
        ends = [stage.until_step for stage in self.curriculum]
        if self.languages is None and ends:
            raise OptionError("curriculum", ends, "nothing where no languages are drawn")
        if sorted(set(ends)) != ends:
            raise OptionError("curriculum", ends, "stages whose until_step grows from one to the next")
        for stage in self.curriculum:
            self.family_of(stage)

    def _check_laws(self) -> None:
        """There must be a best learner of every stage's languages."""
        from xenoglot.laws import best_learner  # here, since it brings all predictors, which --help need not wait for

        for family in (self.languages, *map(self.family_of, self.curriculum)):
            best_learner(typing.cast(Family, family), self.data.n_languages)

    def _check_dynamics(self) -> None:
        dynamics, longest = self.checkpointing.learning_dynamics, self.model.max_seq_len
        stages = self.curriculum if self.data.easy_start else ()
        if dynamics.enabled:
            try:
                dynamics.check_fits(
                    n_steps=self.training.max_steps,
                    shortest_row=min(longest, *(stage.length or longest for stage in stages), longest),
                )
            except OptionError as error:
                raise error.at("checkpointing.learning_dynamics.") from error

    def _check_parts(self) -> None:
        """A step's rows are shared evenly by all devices, and by the parts that each reads one after the other."""
        fabric, n_parts = self.training.fabric, self.training.optimization.gradient_accumulation_steps
        n_parts *= fabric.num_nodes * fabric.num_devices
        for path, size in self.step_sizes.items():
            if size % n_parts:
                allowed = f"a multiple of {n_parts}, which is gradient_accumulation_steps x num_devices x num_nodes"
                raise OptionError(path, size, allowed)

    def _check_tasks(self) -> None:
        """Tasks need words or languages to be made of, and a whole model that can adapt."""
        if self.data.samples is not None:
            raise OptionError(
                "smlmt.enabled", True, "false where samples are learned", "Tasks are made of a text or of languages."
            )
        if self.languages is not None and self.smlmt.sentences is not None:
            raise OptionError("smlmt.sentences", self.smlmt.sentences, "none where tasks are languages")
        if self.training.fabric.strategy == "fsdp":
            raise OptionError(
                "training.fabric.strategy", "fsdp", "auto or ddp where smlmt.enabled is true: only a whole model adapts"
            )
