"""Name -> class, or function, for every folder that says "add a file here".

It is found in one of three ways, and never needs a list to be edited:

- it stands in a file of the registry's folder and has a ``name``;
- an installed package offers it under the registry's entry-point group (``xenoglot.languages``, ...);
- the name is a dotted path, ``my_module:MyFamily`` or ``my_module.MyFamily``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from xenoglot.errors import DataError, UnknownNameError

__all__ = ["Finder", "Registry"]

Found = TypeVar("Found")
Member = TypeVar("Member")


class Finder(ABC, Generic[Found]):
    """What there is of one kind, found by name.

    Args:
        kind: What a member is called in messages ("family").
        package: The folder's import path; also the entry-point group.
        base: The class of every member, or that it derives from, as ``"module:Name"``, so that nothing is imported
            early.
    """

    advice: str
    """How one's own is named, in messages."""
    allowed: str
    """What a member is, in messages, where ``{base}`` stands for the class."""

    def __init__(self, *, kind: str, package: str, base: str) -> None:
        self.kind = kind
        self.package = package
        self._base = base
        self._found: dict[str, Found] | None = None

    def get(self, name: str) -> Found:
        """Return the one with this name, alias or dotted path.

        Raises:
            UnknownNameError: With the nearest known name.
            DataError: If a dotted path leads to something else than one of this kind.
        """
        known = self._known(name)
        if known is not None:
            return known
        if self.is_path(name):
            return self._load(name)
        raise UnknownNameError(
            self.kind, name, self._members(), f"One of your own is named by its path, such as {self.advice}."
        )

    def is_path(self, name: str) -> bool:
        """Say whether a name is no registered one, but the path of a module, whose code `get` runs."""
        return ("." in name or ":" in name) and self._known(name) is None

    def names(self) -> tuple[str, ...]:
        """List the registered names, sorted."""
        return tuple(sorted(self._members()))

    def members(self) -> MappingProxyType[str, Found]:
        """Return what is registered, by name."""
        return MappingProxyType(self._members())

    def _known(self, name: str) -> Found | None:
        members = self._members()
        by_alias = (member for member in members.values() if name in getattr(member, "aliases", ()))
        return members[name] if name in members else next(by_alias, None)

    def _members(self) -> dict[str, Found]:
        if self._found is None:
            found: dict[str, Found] = {}
            folder = importlib.import_module(self.package)
            for module_info in pkgutil.iter_modules(folder.__path__):
                module = importlib.import_module(f"{self.package}.{module_info.name}")
                for _, member in inspect.getmembers(module, self._is_member):
                    if member.__module__ == module.__name__:
                        found[member.name] = member
            for entry_point in importlib.metadata.entry_points(group=self.package):
                found[entry_point.name] = self._checked(entry_point.load(), entry_point.value)
            self._found = found
        return self._found

    @abstractmethod
    def _is_member(self, candidate: Any) -> bool:
        """Say whether something is one of this kind."""

    def _base_class(self) -> type[Any]:
        module_name, _, class_name = self._base.partition(":")
        return cast("type[Any]", getattr(importlib.import_module(module_name), class_name))

    def _load(self, path: str) -> Found:
        module_name, _, class_name = path.partition(":") if ":" in path else path.rpartition(".")
        if not all(part.isidentifier() for part in (*module_name.split("."), class_name)):
            raise UnknownNameError(self.kind, path, self._members(), f"A path is such as {self.advice}.")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
                raise  # the user's module was found; something that it imports was not
            raise UnknownNameError(
                self.kind, path, self._members(), f"There is no module {module_name!r} on Python's path."
            ) from error
        if not hasattr(module, class_name):
            raise UnknownNameError(self.kind, path, self._members(), f"{module_name} has no {class_name!r}.")
        return self._checked(getattr(module, class_name), path)

    def _checked(self, candidate: Any, path: str) -> Found:
        if not self._is_member(candidate):
            allowed = self.allowed.format(base=self._base.replace(":", "."))
            raise DataError(f"{path} is not a {self.kind}: got {candidate!r}; allowed: {allowed}.")
        return cast("Found", candidate)


class Registry(Finder[type[Member]]):
    """The classes of one kind, found by name."""

    advice = "my_module:MyClass"
    allowed = "a subclass of {base} with a name"

    def _is_member(self, candidate: Any) -> bool:
        return (
            inspect.isclass(candidate)
            and issubclass(candidate, self._base_class())
            and not inspect.isabstract(candidate)
            and isinstance(getattr(candidate, "name", None), str)
        )
