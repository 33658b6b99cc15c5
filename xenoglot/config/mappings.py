"""A configuration from nested plain values, its options by dotted path, and back.

Nothing is dropped in silence: an unknown key fails and names the nearest known one, or where it stands instead.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xenoglot import languages
from xenoglot.config.sections import RunConfig, StageConfig
from xenoglot.errors import OptionError, UnknownNameError
from xenoglot.languages import Family
from xenoglot.options import Option, options_of

__all__ = ["FAMILY_OPTION", "from_mapping", "options_by_path", "to_mapping"]

FAMILY_OPTION = Option(
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

SECTION_WORDS = "a section of keys and values"

PICO_KEYS = {
    "checkpointing.checkpoints_dir": "A run's checkpoints are in its folder, under checkpoints.",
    "checkpointing.eval_results_dir": "A run's results are in its folder, under eval_results.",
    "checkpointing.evaluation": "A run's results are in its folder, under eval_results.",
    "checkpointing.fabric_checkpoint_dir": "A checkpoint's training state is in its folder, under state.",
    "checkpointing.fabric_checkpoint_filename": "A checkpoint's training state is in its folder, under state.",
    "checkpointing.learning_dynamics_dir": "They are in a checkpoint's folder, under learning_dynamics.",
    "checkpointing.logs_dir": "A run's metrics are in its folder, in metrics.jsonl.",
    "checkpointing.training": "Its auto_resume is checkpointing.auto_resume.",
    "evaluation.metrics": "Paloma is measured whenever evaluation.paloma.dataset_name is given.",
    "model.batch_size": "A step's rows are data.dataloader.batch_size.",
    "model.model_type": "There is one kind of model: leave it out.",
    "monitoring.logging.log_level": "There are no levels: leave it out.",
}
"""Keys of Pico-MAML's YAML that have another place here, or none."""


def to_mapping(config: Any) -> dict[str, Any]:
    """Return a configuration as nested plain values, ready for JSON or YAML; `from_mapping` reads it back.

    Example:
        >>> from xenoglot.config import default_config
        >>> to_mapping(default_config())["languages"]["n_elements"]
        4
    """
    mapping: dict[str, Any] = {}
    for declared in dataclasses.fields(config):
        value = getattr(config, declared.name)
        if isinstance(value, Family):
            mapping[declared.name] = {"family": _family_name(type(value)), **to_mapping(value)}
        elif isinstance(value, tuple):
            mapping[declared.name] = [to_mapping(each) if dataclasses.is_dataclass(each) else each for each in value]
        elif isinstance(value, Mapping):
            mapping[declared.name] = {name: _plain(inner) for name, inner in value.items()}
        else:
            mapping[declared.name] = to_mapping(value) if dataclasses.is_dataclass(value) else _plain(value)
    return mapping


def from_mapping(mapping: Mapping[str, Any]) -> RunConfig:
    """Make a configuration of nested plain values; what is not given has the default of its section.

    Args:
        mapping: Sections by name; an empty one may be None.

    Raises:
        UnknownNameError: If a key is not known, with the nearest known one.
        OptionError: If a value is not allowed.

    Example:
        >>> from_mapping({"data": {"text": "book.txt"}, "training": {"max_step": 9}})
        Traceback (most recent call last):
        xenoglot.errors.UnknownNameError: unknown option 'training.max_step'. Did you mean 'training.max_steps'? ...
    """
    config: RunConfig = _section_from_mapping(RunConfig, mapping, "")
    return config


def options_by_path(config: RunConfig) -> dict[str, Option]:
    """List every option of a configuration by its dotted path, with its value there as the default.

    Example:
        >>> from xenoglot.config import default_config
        >>> options_by_path(default_config())["training.max_steps"].unit
        'steps'
    """
    return dict(_walk(config, ""))


def _walk(section: Any, prefix: str) -> Iterator[tuple[str, Option]]:
    own = {declared.name: declared for declared in options_of(section)}
    for member in dataclasses.fields(section):
        path = prefix + member.name
        value = getattr(section, member.name)
        if member.name in own:
            yield path, dataclasses.replace(own[member.name], name=path, default=value)
        elif isinstance(value, Family):
            yield f"{path}.family", dataclasses.replace(FAMILY_OPTION, default=_family_name(type(value)))
            for name, declared in _walk(value, f"{path}."):
                yield name, dataclasses.replace(declared, flags=tuple(f"{path}.{flag}" for flag in declared.flags))
        elif dataclasses.is_dataclass(value):
            yield from _walk(value, f"{path}.")


def _section_from_mapping(section: type[Any], mapping: Any, prefix: str) -> Any:
    """Build one dataclass, its sections first."""
    given = _checked_section(mapping, prefix.rstrip("."))
    members = [member.name for member in dataclasses.fields(section)]
    declared = {known.name: known for known in options_of(section)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        path = f"{prefix}{key}"
        if key not in members:
            raise UnknownNameError("option", path, [prefix + name for name in members], _where_else(path))
        if key in declared:
            dataclasses.replace(declared[key], name=path).check(value)
            values[key] = tuple(value) if declared[key].is_list else value
        else:
            values[key] = _member_from(section, key, value, path)
    try:
        return section(**values)
    except OptionError as error:
        raise error.at(prefix) from error


def _member_from(section: type[Any], key: str, value: Any, path: str) -> Any:
    """Build what is not a single option: a section, a family, stages."""
    if section is StageConfig:
        return dict(_checked_section(value, path))
    if key == "languages":
        return None if value is None else _family_from_mapping(value)
    if key == "curriculum":
        if not isinstance(value, list | tuple | None):
            raise OptionError(path, value, "a list of stages")
        return tuple(_section_from_mapping(StageConfig, stage, f"{path}.{i}.") for i, stage in enumerate(value or ()))
    return _section_from_mapping(typing.get_type_hints(section)[key], value, f"{path}.")


def _family_from_mapping(mapping: Any) -> Family:
    options = dict(_checked_section(mapping, "languages"))
    name = options.pop("family", "metalm-v1")
    FAMILY_OPTION.check(name)
    made: Family = _section_from_mapping(languages.get(name), options, "languages.")
    return made


def _checked_section(value: Any, path: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise OptionError(path or "configuration", value, SECTION_WORDS)
    return value


def _where_else(path: str) -> str:
    """Say where an unknown key stands here, if it is Pico's, or known in another section."""
    if path in PICO_KEYS:
        return PICO_KEYS[path]
    key = path.rpartition(".")[2]
    known = options_by_path(RunConfig(languages=languages.get("metalm-v1")()))
    elsewhere = [other for other in known if other.rpartition(".")[2] == key]
    if path in elsewhere:
        return "metalm-v1 has it; this family does not."
    return f"There is {' and '.join(elsewhere)}." if elsewhere else ""


def _family_name(family: type[Family]) -> str:
    """Return the name under which `xenoglot.languages.get` finds the class again."""
    is_registered = languages.registry.members().get(family.name) is family
    return family.name if is_registered else f"{family.__module__}:{family.__qualname__}"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
