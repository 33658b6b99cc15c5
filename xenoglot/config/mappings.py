"""A configuration from nested plain values, from overrides by dotted path, and back.

Nothing is dropped in silence: an unknown key fails and names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from xenoglot import languages
from xenoglot.config.sections import (
    DataConfig,
    DataLoaderConfig,
    ModelConfig,
    OptimizationConfig,
    RunConfig,
    StageConfig,
    TrainingConfig,
)
from xenoglot.errors import OptionError, UnknownNameError
from xenoglot.languages import Family
from xenoglot.options import Option, options_of

__all__ = ["default_config", "from_mapping", "options_by_path", "to_mapping", "with_overrides"]


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
