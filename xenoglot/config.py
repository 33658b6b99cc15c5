"""A run's configuration: frozen sections of declared options, from mappings and overrides by dotted path.

Sections and keys are those of Pico-MAML's YAML wherever the meaning is the same; `languages` is new, and holds a
family's own options. Nothing is dropped in silence: an unknown key fails and names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from xenoglot import languages
from xenoglot.errors import OptionError, UnknownNameError
from xenoglot.languages import Family
from xenoglot.options import Option, check_options, option, options_of

__all__ = [
    "CheckpointingConfig",
    "DataConfig",
    "DataLoaderConfig",
    "EvaluationConfig",
    "LoggingConfig",
    "ModelConfig",
    "MonitoringConfig",
    "OptimizationConfig",
    "RunConfig",
    "StageConfig",
    "TrainingConfig",
    "default_config",
    "from_mapping",
    "options_by_path",
    "to_mapping",
    "with_overrides",
]


@dataclass(frozen=True, kw_only=True)
class DataLoaderConfig:
    """How rows are put together."""

    batch_size: int = option(32, "rows of a step", unit="rows", minimum=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learned."""

    text: str | None = option(
        None, "file of your own text to learn instead of languages; its bytes are the tokens", flags=("text",)
    )
    dataloader: DataLoaderConfig = field(default_factory=DataLoaderConfig)
    easy_start: bool = option(True, "whether the stages of the curriculum, if there are any, come first")

    def __post_init__(self) -> None:
        check_options(self)


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

    lr: float = option(1e-2, "highest learning rate", minimum=0)
    lr_scheduler: str = option("cosine", "how the rate decays after the warm-up", choices=("cosine", "linear"))
    lr_warmup_steps: int = option(100, "steps over which the rate rises from zero", unit="steps", minimum=0)
    lr_final_ratio: float = option(0.0, "rate at the last step, as a share of lr", minimum=0, maximum=1)
    weight_decay: float = option(0.1, "AdamW's decay of matrices; norms and embeddings have none", minimum=0)
    beta1: float = option(0.9, "AdamW's memory of the gradient", minimum=0, maximum=0.999999)
    beta2: float = option(0.95, "AdamW's memory of its square", minimum=0, maximum=0.999999)
    gradient_clip_norm: float = option(
        1.0, "greatest Euclidean norm of all gradients together", minimum=0, exclusive_minimum=True
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long and from which seed."""

    max_steps: int = option(1500, "optimizer steps, exactly", unit="steps", minimum=1)
    seed: int = option(0, "what all randomness of the run is derived from", minimum=0, maximum=2**63 - 1)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How often and on how much the model is measured."""

    eval_every_n_steps: int = option(
        250, "steps between evaluations; before the first and after the last too", unit="steps", minimum=1
    )
    n_languages: int = option(256, "fresh languages of an evaluation, one row each", unit="languages", minimum=2)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class CheckpointingConfig:
    """Where the run is kept."""

    runs_dir: str = option("runs", "folder of all runs")
    run_name: str | None = option(None, "the run's folder in it; made of the time if none")
    save_every_n_steps: int = option(
        1000, "steps between checkpoints; the last step is always saved", unit="steps", minimum=1
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.run_name is not None and (not self.run_name.strip(".") or set("/\\\0") & set(self.run_name)):
            raise OptionError("run_name", self.run_name, "a plain folder name", "The folder it is in is runs_dir.")


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is written down while training."""

    log_every_n_steps: int = option(10, "steps between lines of metrics.jsonl", unit="steps", minimum=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class MonitoringConfig:
    """How the run is watched."""

    logging: LoggingConfig = field(default_factory=LoggingConfig)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """An easier beginning: what differs from the rest of the run until a step is reached.

    Attributes:
        languages: Options of the family by name, where they differ.
    """

    until_step: int = option(1, "first step that no longer belongs to the stage", unit="steps", minimum=1)
    length: int | None = option(None, "tokens of a row; those of the model if none or more", unit="tokens", minimum=1)
    languages: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on.

    Example:
        >>> default_config().model.d_model
        64
        >>> with_overrides(default_config(), {"training.max_steps": 10}).training.max_steps
        10
        >>> with_overrides(default_config(), {"training.max_step": 10})
        Traceback (most recent call last):
        xenoglot.errors.UnknownNameError: unknown option 'training.max_step'. Did you mean 'training.max_steps'? ...
    """

    data: DataConfig = field(default_factory=DataConfig)
    languages: Family | None = None
    curriculum: tuple[StageConfig, ...] = ()
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpointing: CheckpointingConfig = field(default_factory=CheckpointingConfig)
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)

    def __post_init__(self) -> None:
        if (self.data.text is None) == (self.languages is None):
            raise OptionError("data.text", self.data.text, "a file, or else a family under languages, but not both")
        ends = [stage.until_step for stage in self.curriculum]
        if self.languages is None and ends:
            raise OptionError("curriculum", ends, "nothing where a text is learned")
        if sorted(set(ends)) != ends:
            raise OptionError("curriculum", ends, "stages whose until_step grows from one to the next")
        for stage in self.curriculum:
            self.family_of(stage)

    def family_of(self, stage: StageConfig) -> Family:
        """Return the family of a stage: the run's own, with the stage's options.

        Raises:
            UnknownNameError: If an option is not one of the family's.
            OptionError: If a value is not allowed, or the stage would have ids that the run has not.
        """
        own = typing.cast(Family, self.languages)
        family = _family_from_mapping({"family": _family_name(type(own)), **dataclasses.asdict(own), **stage.languages})
        if family.n_tokens > own.n_tokens:
            raise OptionError("curriculum", dict(stage.languages), f"at most the run's own {own.n_tokens} ids")
        return family


def default_config(text: str | None = None) -> RunConfig:
    """Return the configuration of `xenoglot train`, or of `xenoglot train --text FILE`.

    Args:
        text: The file to learn from; brand-new languages of MetaLM-1 if None.
    """
    if text is None:
        family = languages.get("metalm-v1")
        return RunConfig(
            languages=family(vocab_size=16, n_elements=4, element_length=8, error_rate=0.05, separator=True),  # type: ignore[call-arg]
            # On full rows from the start, when copying by several tokens begins is chance: for seed 0, not in time.
            curriculum=(
                StageConfig(until_step=100, length=64, languages={"n_elements": 1, "error_rate": 0.0}),
                StageConfig(until_step=200, length=128, languages={"n_elements": 2}),
            ),
        )
    return RunConfig(
        data=DataConfig(text=text, dataloader=DataLoaderConfig(batch_size=12)),
        model=ModelConfig(
            d_model=128,
            n_layers=4,
            attention_n_heads=4,
            attention_n_kv_heads=4,
            activation_hidden_dim=384,
            max_seq_len=64,
        ),
        training=TrainingConfig(max_steps=2000, optimization=OptimizationConfig(lr=2e-3)),
    )


def to_mapping(config: Any) -> dict[str, Any]:
    """Return a configuration as nested plain values, ready for JSON; `from_mapping` reads it back."""
    mapping: dict[str, Any] = {}
    for declared in dataclasses.fields(config):
        value = getattr(config, declared.name)
        if isinstance(value, Family):
            mapping[declared.name] = {"family": _family_name(type(value)), **dataclasses.asdict(value)}
        elif isinstance(value, tuple):
            mapping[declared.name] = [to_mapping(stage) for stage in value]
        else:
            mapping[declared.name] = to_mapping(value) if dataclasses.is_dataclass(value) else value
    return mapping


def from_mapping(mapping: Mapping[str, Any]) -> RunConfig:
    """Make a configuration of nested plain values; what is not given has the default of its section.

    Raises:
        UnknownNameError: If a key is not known, with the nearest known one.
        OptionError: If a value is not allowed.
    """
    config: RunConfig = _section_from_mapping(RunConfig, mapping, "")
    return config


def with_overrides(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """Replace single values, given under dotted paths such as ``training.max_steps``.

    Naming another family under ``languages.family`` starts from that family's own defaults, without a curriculum.

    Raises:
        UnknownNameError: If a path is not known, with the nearest known one.
        OptionError: If a value is not allowed.
    """
    mapping = to_mapping(config)
    if "languages.family" in overrides and config.languages is not None:
        mapping["languages"], mapping["curriculum"] = {"family": overrides["languages.family"]}, []
        config = from_mapping(mapping)
    known = options_by_path(config)
    for path, value in overrides.items():
        if path not in known:
            raise UnknownNameError("option", path, known)
        *sections, key = path.split(".")
        owner = mapping
        for section in sections:
            owner = owner[section]
        owner[key] = value
    return from_mapping(mapping)


def options_by_path(config: RunConfig) -> dict[str, Option]:
    """List every option of a configuration by its dotted path, with its value there as the default."""
    return dict(_walk(config, ""))


def _walk(section: Any, prefix: str) -> Iterator[tuple[str, Option]]:
    own = {declared.name: declared for declared in options_of(section)}
    for member in dataclasses.fields(section):
        path = prefix + member.name
        value = getattr(section, member.name)
        if member.name in own:
            yield path, dataclasses.replace(own[member.name], name=path, default=value)
        elif isinstance(value, Family):
            yield f"{path}.family", dataclasses.replace(_FAMILY_OPTION, default=_family_name(type(value)))
            for name, declared in _walk(value, f"{path}."):
                yield name, dataclasses.replace(declared, flags=tuple(f"{path}.{flag}" for flag in declared.flags))
        elif dataclasses.is_dataclass(value):
            yield from _walk(value, f"{path}.")


def _section_from_mapping(section: type[Any], mapping: Mapping[str, Any], prefix: str) -> Any:
    """Build one dataclass, its sections first."""
    if not isinstance(mapping, Mapping):
        raise OptionError(prefix.rstrip("."), mapping, "a section of keys and values")
    members = {member.name: member for member in dataclasses.fields(section)}
    declared = {known.name: known for known in options_of(section)}
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        path = prefix + str(key)
        if key not in members:
            raise UnknownNameError("option", path, [prefix + name for name in members])
        if key in declared:
            dataclasses.replace(declared[key], name=path).check(value)
            values[key] = value
        elif section is StageConfig:
            values[key] = dict(value)
        elif key == "languages":
            values[key] = None if value is None else _family_from_mapping(value)
        elif key == "curriculum":
            values[key] = tuple(
                _section_from_mapping(StageConfig, stage, f"{path}.{i}.") for i, stage in enumerate(value)
            )
        else:
            values[key] = _section_from_mapping(_type_of(section, key), value, f"{path}.")
    return section(**values)


def _family_from_mapping(mapping: Mapping[str, Any]) -> Family:
    options = dict(mapping)
    family = languages.get(str(options.pop("family", "metalm-v1")))
    made: Family = _section_from_mapping(family, options, "languages.")
    return made


def _type_of(section: type[Any], key: str) -> type[Any]:
    return typing.cast("type[Any]", typing.get_type_hints(section)[key])


def _family_name(family: type[Family]) -> str:
    """Return the name under which `xenoglot.languages.get` finds the class again."""
    is_registered = languages.registry.members().get(family.name) is family
    return family.name if is_registered else f"{family.__module__}:{family.__qualname__}"


_FAMILY_OPTION = Option(
    name="languages.family",
    kind=str,
    optional=False,
    default=None,
    doc="whose brand-new languages are learned",
    unit="",
    minimum=None,
    maximum=None,
    exclusive_minimum=False,
    choices=(),
    flags=(),
)
