"""Registries: things with names, from this project and from other packages.

Another package brings its own through an entry point: the group is the registry's, the name is
the thing's, the value is where it stands.
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
    """What a registry may hold."""

    @property
    def name(self) -> str:
        """By which users and files mean it."""

    @property
    def position(self) -> int:
        """Of this project's own things in lists; those of other packages follow by name."""


T = TypeVar("T", bound=Registered)


class Registry(Mapping[str, T], Generic[T]):
    """Things by name, looked up when first asked for; the order is that of lists and columns.

    Names are known without importing other packages; :meth:`__getitem__` imports the one asked
    for.

    Args:
        kind: class of the things.
        what: that a message calls one.
        own: gives this project's own, when first asked for.
        group: of the entry points of other packages.
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
        """The thing of a name.

        Raises:
            KeyError: there is none.
            SpecError: the package that brings it cannot be used, or two bring it.
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
            # Whatever a foreign package does when it is imported, the message names it.
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
    """The value of one variable in every module of a package.

    Args:
        package: its name; sub-packages do not count.
        constant: the variable, which every module has.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        yield getattr(importlib.import_module(f"{package}.{module.name}"), constant)


def _package_of(entry: importlib.metadata.EntryPoint) -> str:
    return visible(entry.dist.name) if entry.dist else "a package"
