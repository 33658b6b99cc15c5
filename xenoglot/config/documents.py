"""YAML as people mean it: plain values, each with the line that it stands on.

PyYAML reads YAML 1.1, in which ``1e-4`` is text and ``on`` is true. Here, as in YAML 1.2 and on the command line:

- ``1e-4``, ``1E5``, ``.5`` and ``1_000`` are numbers, and ``010`` is ten; ``0x10``, ``1:30`` and dates are text;
- only ``true`` and ``false`` (``True``, ``TRUE``, ...) are booleans: ``on``, ``off``, ``yes`` and ``no`` are text;
- ``null``, ``none``, ``~`` and nothing at all are none;
- a key that comes twice is an error. Anchors, aliases and ``<<`` work; no tag makes anything but plain values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xenoglot.errors import ConfigFileError

__all__ = ["Document", "read_document", "scalar_text"]

TAG = "tag:yaml.org,2002:"
DIGITS = "[0-9][0-9_]*"
SCALARS = {
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": rf"[-+]?{DIGITS}",
    "float": rf"[-+]?(?:{DIGITS}(?:\.[0-9_]*)?|\.{DIGITS})(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "null": r"~|null|Null|NULL|none|None|NONE|",
    "merge": r"<<",
}
"""What an unquoted word means, if not text; the first that fits."""

LARGEST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Document:
    """A file's values, and where each of them stands.

    Attributes:
        path: The file.
        values: Sections by name.
    """

    path: Path
    values: Mapping[str, Any]
    _root: yaml.Node | None

    def line_of(self, option: str) -> int | None:
        """Return the line of an option, or of the innermost section around it that is there, or None.

        Args:
            option: A dotted path, such as ``curriculum.0.length``.
        """
        node, line = self._root, None
        for part in option.split("."):
            found = _member(node, part)
            if found is None:
                break
            line, node = found
        return line


def read_document(path: Path) -> Document:
    """Read a YAML file of sections.

    Raises:
        ConfigFileError: If the file cannot be read, or is no YAML, or no mapping; with the line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigFileError(path, f"the file cannot be read: {error.strerror}.") from error
    if len(content) > LARGEST_BYTES:
        raise ConfigFileError(path, f"more than {LARGEST_BYTES:,} bytes: this is no configuration.")
    try:
        root = yaml.compose(content.decode("utf-8-sig"), Loader=_Loader)
        values = {} if root is None else _Reader().value(root)
    except RecursionError as error:
        raise ConfigFileError(path, "sections within sections without end: this is no configuration.") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigFileError(path, "this is not text in UTF-8.", line=line) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigFileError(path, f"{problem}.", line=None if mark is None else mark.line + 1) from error
    except yaml.YAMLError as error:
        raise ConfigFileError(path, f"{' '.join(str(error).split())}.") from error
    if not isinstance(values, Mapping | None):
        raise ConfigFileError(path, f"got {values!r}; allowed: sections of keys and values.", line=1)
    return Document(path=path, values=values or {}, _root=root)


def scalar_text(value: Any) -> str:
    """Write a plain value, or a mapping of them on one line, so that every YAML reads it back as it is.

    Example:
        >>> scalar_text(1e-05), scalar_text("none"), scalar_text(None), scalar_text({"n": 1})
        ('1.0e-05', "'none'", 'null', '{n: 1}')
    """
    quotes = '"' if isinstance(value, str) and not value.isprintable() else None  # escaped, and on one line
    written = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=True,
        default_style=quotes,
        allow_unicode=True,
        width=2**31,
        sort_keys=False,
    )
    return written.removesuffix("\n").removesuffix("\n...")


class _Reader:
    """Makes plain values of nodes, each node once, so that aliases of aliases cost nothing."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._open: set[int] = set()

    def value(self, node: yaml.Node) -> Any:
        if id(node) in self._open:
            raise _problem(node, "this contains itself")
        if id(node) not in self._made:
            self._open.add(id(node))
            self._made[id(node)] = self._make(node)
            self._open.remove(id(node))
        return self._made[id(node)]

    def _make(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
            return [self.value(member) for member in node.value]
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(TAG) in ("str", *SCALARS):
            return _scalar(node)
        raise _problem(node, f"the tag {node.tag.replace(TAG, '!!')} is not understood; write plain values")

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, member in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem(key, "a key is not a word")
            if key.tag == f"{TAG}merge":
                for inner in _merged_nodes(member):
                    merged = self.value(inner) | merged  # of several, the first counts
            elif key.value in own:
                raise _problem(key, f"the key {key.value!r} comes twice, here and on line {lines[key.value]}")
            else:
                own[key.value], lines[key.value] = self.value(member), key.start_mark.line + 1
        return merged | own


def _merged_nodes(node: yaml.Node) -> Sequence[yaml.MappingNode]:
    """List the mappings that ``<<`` brings in."""
    members: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for member in members:
        if not isinstance(member, yaml.MappingNode):
            raise _problem(member, "<< takes a mapping, or a list of mappings")
    return [member for member in members if isinstance(member, yaml.MappingNode)]


def _scalar(node: yaml.ScalarNode) -> Any:
    kind, text = node.tag.removeprefix(TAG), node.value
    if kind in ("str", "merge"):
        return text
    if not re.fullmatch(SCALARS[kind], text):  # a tag of one's own, !!int many
        raise _problem(node, f"{text!r} is not of the kind !!{kind}")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    plain = text.replace("_", "").lower()
    try:
        return int(plain) if kind == "int" else float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as error:  # Python reads no integer of thousands of digits
        raise _problem(node, f"this number is too long: {text[:20]}...") from error


def _member(node: yaml.Node | None, name: str) -> tuple[int, yaml.Node] | None:
    """Find what stands under a key or a position of a node, and its line."""
    if isinstance(node, yaml.SequenceNode) and name.isdecimal() and int(name) < len(node.value):
        member = node.value[int(name)]
        return member.start_mark.line + 1, member
    if not isinstance(node, yaml.MappingNode):
        return None
    own = [(key.start_mark.line + 1, member) for key, member in node.value if key.value == name]
    return next(iter(own), None) or next(_merged_members(node, name), None)


def _merged_members(node: yaml.MappingNode, name: str) -> Iterator[tuple[int, yaml.Node]]:
    for key, member in node.value:
        if key.tag == f"{TAG}merge":
            yield from filter(None, (_member(inner, name) for inner in _merged_nodes(member)))


def _problem(node: yaml.Node, words: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=words, problem_mark=node.start_mark)


class _Loader(yaml.SafeLoader):
    """Composes nodes only; scalars are resolved by our rules alone."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's own way of inheriting


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML 1.1 or our rules would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind, _pattern in SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{TAG}{_kind}", re.compile(f"(?:{_pattern})$"), None)
