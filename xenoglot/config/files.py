"""A configuration as a YAML file: read with the line of every complaint, written with every option explained.

```yaml
# run.yaml: what is not said has its default
languages: {family: markov, order: 2}
training:
  max_steps: 3000
  optimization: {lr: 5e-3}
```
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xenoglot import languages
from xenoglot.config.documents import Document, read_document, scalar_text
from xenoglot.config.layers import resolve
from xenoglot.config.mappings import FAMILY_OPTION, to_mapping
from xenoglot.config.pico import PicoWarning, translated
from xenoglot.config.sections import RunConfig, StageConfig
from xenoglot.errors import ConfigFileError, OptionError, UnknownNameError
from xenoglot.languages import Family
from xenoglot.options import Option, options_of
from xenoglot.storage.files import StagedFiles

__all__ = ["config_text", "family_of_ones_own", "read_config", "read_layer", "write_config"]

HEADING = """\
# A run of Xenoglot: every option with its value.
# Another run like it: xenoglot train --config_path THIS_FILE --checkpointing.run_name ANOTHER_NAME
"""
WIDEST_VALUE = 36

NAMED_BY = {"family": "languages.family", "model size": "model.size"}
"""The option that gives a name of some kind."""


def read_config(path: str | os.PathLike[str]) -> RunConfig:
    r"""Read a configuration from a YAML file.

    What is not said has the default that belongs to what is learned: see `xenoglot.config.resolve`.

    Args:
        path: The file; sections and keys are those of `RunConfig`, and ``model.size`` may name a size.

    Raises:
        ConfigFileError: If the file cannot be read, or something in it is not known or not allowed; with the line.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "run.yaml"
        ...     _ = path.write_text("training:\n  optimization: {lr: 1e-4}\n")
        ...     read_config(path).training.optimization.lr
        0.0001
    """
    return resolve(read_layer(path))


def family_of_ones_own(path: str | os.PathLike[str]) -> str | None:
    """Return the path of the code that a file names as its family, which `read_config` imports; None if it names none.

    Raises:
        ConfigFileError: If the file cannot be read.
    """
    section = read_document(Path(path)).values.get("languages")
    name = section.get("family") if isinstance(section, Mapping) else None
    return name if isinstance(name, str) and languages.registry.is_path(name) else None


def read_layer(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read what a YAML file says, and nothing else: a layer for `xenoglot.config.resolve`, sound by itself.

    A file of Pico's is read as `xenoglot.config.pico` says, with a `PicoWarning`.

    Raises:
        ConfigFileError: As `read_config`.
    """
    document = read_document(Path(path))
    with _complaints_name_the_place(document):
        layer, warning = translated(document.values)
        resolve(layer)
    if warning is not None:
        warnings.warn(f"{document.path}: {warning}", PicoWarning, stacklevel=2)
    return layer


def write_config(path: str | os.PathLike[str], config: RunConfig) -> None:
    """Write a configuration as YAML, every option with its value, meaning and unit; `read_config` reads it back.

    Raises:
        OutputError: If the file cannot be written; nothing half-written is left.
    """
    with StagedFiles() as staged, staged.open(path) as file:
        file.write(config_text(config).encode())


def config_text(config: RunConfig) -> str:
    """Return a configuration as YAML: every option with its value, meaning and unit.

    Example:
        >>> from xenoglot.config import default_config
        >>> [line] = [line for line in config_text(default_config()).splitlines() if "max_steps" in line]
        >>> " ".join(line.split())
        'max_steps: 1500 # optimizer steps, exactly [steps]'
    """
    return HEADING + "\n".join(_section_lines(config, to_mapping(config), "")) + "\n"


@contextlib.contextmanager
def _complaints_name_the_place(document: Document) -> Iterator[None]:
    """Add the file's name, and the line if there is one, to complaints about what is in it."""
    try:
        yield
    except OptionError as error:
        raise ConfigFileError(document.path, str(error), line=document.line_of(error.option)) from error
    except UnknownNameError as error:
        option = NAMED_BY.get(error.kind, error.got)
        raise ConfigFileError(document.path, str(error), line=document.line_of(option)) from error


def _section_lines(section: Any, values: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Write a section's options, then the sections in it."""
    declared = {known.name: known for known in options_of(section)}
    if isinstance(section, Family):
        declared = {"family": FAMILY_OPTION} | declared
    yield from _option_lines({name: values[name] for name in declared}, declared, indent)
    for member in dataclasses.fields(section):
        if member.name not in declared:
            yield from _member_lines(member.name, getattr(section, member.name), values[member.name], indent)


def _member_lines(name: str, member: Any, values: Any, indent: str) -> Iterator[str]:
    """Write a section within a section: a section proper, a family, stages."""
    if isinstance(member, tuple):
        yield from _stage_lines(name, member, values, indent)
    elif dataclasses.is_dataclass(member):
        if not indent:
            yield ""
        yield f"{indent}{name}:  # {_first_sentence(type(member))}"
        yield from _section_lines(member, values, f"{indent}  ")
    else:
        yield f"{indent}{name}: {scalar_text(values)}"


def _stage_lines(name: str, stages: tuple[Any, ...], values: Any, indent: str) -> Iterator[str]:
    yield ""
    yield f"{indent}{name}:{'' if stages else ' []'}  # {_first_sentence(StageConfig)}"
    for stage, stage_values in zip(stages, values, strict=True):
        first, *others = _section_lines(stage, stage_values, f"{indent}    ")
        yield f"{indent}  - {first.lstrip()}"
        yield from others


def _option_lines(values: Mapping[str, Any], declared: Mapping[str, Option], indent: str) -> Iterator[str]:
    """Write options one a line, their explanations below each other."""
    lines = {name: f"{indent}{name}: {scalar_text(value)}" for name, value in values.items()}
    width = max((len(line) for line in lines.values() if len(line) <= WIDEST_VALUE), default=0)
    for name, line in lines.items():
        known = declared[name]
        facts = [*([known.unit] if known.unit else []), *([known.allowed] if known.choices else [])]
        yield f"{line:<{width}}  # {known.doc}" + (f" [{'; '.join(facts)}]" if facts else "")


def _first_sentence(section: type[Any]) -> str:
    return (inspect.getdoc(section) or "").partition("\n")[0]
