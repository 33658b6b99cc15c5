"""A JSON schema of configuration files, from which editors complete, explain and check them.

```sh
xenoglot train --print_schema > xenoglot.schema.json
```

and, where the editor has the YAML language server, as the first line of a file:
``# yaml-language-server: $schema=xenoglot.schema.json``
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any

from xenoglot import languages, model_sizes
from xenoglot.config.layers import SIZE_OPTION, default_config
from xenoglot.config.mappings import FAMILY_OPTION, options_by_path
from xenoglot.config.sections import RunConfig, StageConfig
from xenoglot.languages import Family
from xenoglot.options import Option, options_of

__all__ = ["json_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
DEFAULT_FAMILY = "metalm-v1"
OWN_FAMILY = r"^[A-Za-z_][A-Za-z0-9_.]*[.:][A-Za-z_][A-Za-z0-9_]*$"

Schema: typing.TypeAlias = dict[str, Any]


def json_schema() -> Schema:
    """Return the schema of configuration files, draft 2020-12.

    Unknown keys are refused; every option has its meaning, unit, limits and default, where that does not depend on what
    is learned. What a schema cannot say (``d_model`` is a multiple of the heads) is checked when the file is read.

    Example:
        >>> json_schema()["properties"]["training"]["properties"]["max_steps"]["minimum"]
        1
    """
    schema = _section(RunConfig, "")
    schema["properties"] |= {
        "languages": _languages(),
        "curriculum": {
            "type": ["array", "null"],
            "items": _section(StageConfig, "curriculum."),
            "description": _first_sentence(StageConfig),
        },
    }
    schema["properties"]["model"]["properties"]["size"] = _option(SIZE_OPTION, {"enum": [*model_sizes.names(), None]})
    return {"$schema": DIALECT, "title": "A run of Xenoglot", **schema}


def _section(section: type[Any], prefix: str) -> Schema:
    """Describe a section: its options, and the sections in it."""
    declared = {known.name: known for known in options_of(section)}
    defaults = _common_defaults()
    properties: Schema = {}
    for member in dataclasses.fields(section):
        path, kind = prefix + member.name, typing.get_type_hints(section)[member.name]
        if member.name in declared:
            default = {"default": defaults[path]} if path in defaults else {}
            properties[member.name] = _option(declared[member.name], default)
        elif dataclasses.is_dataclass(kind):
            properties[member.name] = _section(typing.cast("type[Any]", kind), f"{path}.")
        else:
            properties[member.name] = {"type": ["object", "null"]}
    return _object(section, properties)


def _languages() -> Schema:
    """Describe the families: which options there are depends on the name; a family of one's own has any."""
    known = [_family(family) for _, family in sorted(languages.registry.members().items())]
    own = {
        "type": "object",
        "properties": {"family": {"type": "string", "pattern": OWN_FAMILY, "description": FAMILY_OPTION.doc}},
        "required": ["family"],
        "description": "A family of your own, by its path, such as my_module:Mine.",
    }
    return {"anyOf": [{"type": "null"}, *known, own], "description": "Families of languages to draw from."}


def _family(family: type[Family]) -> Schema:
    options = {known.name: _option(known, {"default": known.default}) for known in options_of(family)}
    names = {"enum": [family.name, *family.aliases], "description": FAMILY_OPTION.doc}
    schema = _object(family, {"family": names, **options}) | {"type": "object"}
    return schema if family.name == DEFAULT_FAMILY else schema | {"required": ["family"]}


def _object(owner: type[Any], properties: Schema) -> Schema:
    return {
        "type": ["object", "null"],
        "description": _first_sentence(owner),
        "properties": properties,
        "additionalProperties": False,
    }


def _option(declared: Option, more: Schema) -> Schema:
    unit = f" [{declared.unit}]" if declared.unit else ""
    if declared.is_list:
        each = _option(dataclasses.replace(declared, is_list=False), {})
        return {"description": declared.doc + unit, "type": "array", "items": each, "default": list(declared.default)}
    schema: Schema = {"description": declared.doc + unit, "type": TYPES[declared.kind], **more}
    if declared.choices:
        schema["enum"] = list(declared.choices)
    if declared.minimum is not None:
        schema["exclusiveMinimum" if declared.exclusive_minimum else "minimum"] = declared.minimum
    if declared.maximum is not None:
        schema["maximum"] = declared.maximum
    if declared.optional:
        schema["type"] = [schema["type"], "null"]
    return schema


def _common_defaults() -> dict[str, Any]:
    """Return the defaults that are the same whatever is learned."""
    of_languages, of_text = options_by_path(default_config()), options_by_path(default_config("book.txt"))
    return {
        path: known.default
        for path, known in of_languages.items()
        if path in of_text and of_text[path].default == known.default
    }


def _first_sentence(owner: type[Any]) -> str:
    return (inspect.getdoc(owner) or "").partition("\n")[0]
