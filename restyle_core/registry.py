"""Registries of named objects from this project and from other packages.

Another package registers an object as an entry point in the registry's group, under the object's
name.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from restyle.core.errors import SpecError
from restyle.core.shown_text import visible


class Registered(Protocol):
    """Protocol of the objects in a registry."""

    @property
    def name(self) -> str:
        """Identifier in commands and files."""

    @property
    def position(self) -> int:
        """Sort key of this project's objects in lists; other packages' follow by name."""


T = TypeVar("T", bound=Registered)


class Registry(Mapping[str, T], Generic[T]):
    """Objects by name, in the order of lists and columns.

    Names are available without importing other packages; :meth:`__getitem__` imports the package
    of the requested object.

    Args:
        kind: class of the objects.
        what: noun for one object in messages.
        own: returns this project's objects; called on first use.
        group: entry point group of other packages.
    """

    def __init__(
        self, kind: type[T], what: str, own: Callable[[], Iterable[T]], group: str
    ) -> None:
        self._kind = kind
        self._what = what
        self._find_own = own
        self.group = group
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """The object of a name.

        Raises:
            KeyError: there is none.
            SpecError: its package cannot be used, or two packages register the name.
        """
        if name in self._loaded:
            return self._loaded[name]
        own, entries = self._own.get(name), self._entries.get(name, [])
        if own is None and not entries:
            raise KeyError(name)
        if len(entries) + (own is not None) > 1:
            brought = ", ".join(sorted(map(_package_of, entries)))
            too = ", which restyle has itself" if own is not None else ""
            raise SpecError(
                f"{brought} registers the {self._what} {visible(name)}{too}; uninstall what is "
                "not meant"
            )
        self._loaded[name] = own if own is not None else self._load(name, entries[0])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._entries

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from sorted(name for name in self._entries if name not in self._own)

    def __len__(self) -> int:
        return len(self._own.keys() | self._entries.keys())

    @functools.cached_property
    def _own(self) -> dict[str, T]:
        things = sorted(self._find_own(), key=lambda thing: (thing.position, thing.name))
        return {thing.name: thing for thing in things}

    @functools.cached_property
    def _entries(self) -> dict[str, list[importlib.metadata.EntryPoint]]:
        found: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for entry in importlib.metadata.entry_points(group=self.group):
            found.setdefault(entry.name, []).append(entry)
        return found

    def _load(self, name: str, entry: importlib.metadata.EntryPoint) -> T:
        try:
            thing: Any = entry.load()
        except Exception as error:
            # Importing a foreign package may raise anything; the message names the package.
            reason = visible(" ".join(str(error).split()))
            raise self._unusable(entry, f"{type(error).__name__}: {reason}") from error
        if not isinstance(thing, self._kind):
            kinds = f"{type(thing).__name__}, not a {self._kind.__name__}"
            raise self._unusable(entry, f"{entry.value} is a {kinds}")
        if thing.name != name:
            raise self._unusable(entry, f"{entry.value} calls itself {visible(thing.name)}")
        return thing

    def _unusable(self, entry: importlib.metadata.EntryPoint, reason: str) -> SpecError:
        return SpecError(
            f"the {self._what} {visible(entry.name)} of {_package_of(entry)} cannot be used: "
            f"{reason}; mend or uninstall that package"
        )


def constants_of(package: str, constant: str) -> Iterator[Any]:
    """Values of one module-level constant in all modules of a package.

    Args:
        package: name of the package; its sub-packages are ignored.
        constant: name of the constant, which every module defines.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        yield getattr(importlib.import_module(f"{package}.{module.name}"), constant)


def _package_of(entry: importlib.metadata.EntryPoint) -> str:
    return visible(entry.dist.name) if entry.dist else "a package"
