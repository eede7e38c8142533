"""A Griffe extension: the docstrings' few reStructuredText marks as the Markdown of the site.

``:func:`name``` and its like become links, which a strict build checks. A name is looked up where
the docstring stands, as Python would; private ones have no place in the reference and stay text.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from griffe import Alias, Extension, Module, NameResolutionError, Object

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`(~?)([\w.]+)`")
_LITERAL_BLOCK = re.compile(r"::$", re.MULTILINE)

log = logging.getLogger("mkdocs.hooks.docstrings")


class Marks(Extension):
    """Rewrites every docstring of a package once it is loaded."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Visit everything below a package."""
        _rewrite(pkg)


def _rewrite(thing: Object) -> None:
    if thing.docstring:
        text = _LITERAL_BLOCK.sub(":", thing.docstring.value).replace("\n:\n", "\n")
        thing.docstring.value = _ROLE.sub(lambda role: _link(thing, role), text)
    for member in thing.members.values():
        if not isinstance(member, Alias):
            _rewrite(member)


def _link(thing: Object, role: re.Match[str]) -> str:
    name = role[2]
    if any(part.startswith("_") and part != "__call__" for part in name.split(".")):
        return f"`{name}`"
    shown = name.rpartition(".")[2] if role[1] else name
    return f"[`{shown}`][{_full_name(thing, name)}]"


def _full_name(thing: Object, name: str) -> str:
    if name.startswith("restyle."):
        return name
    first, _, rest = name.partition(".")
    try:
        found = thing.resolve(first)
    except NameResolutionError:
        log.warning("%s: %s is not found from here", thing.path, name)
        return name
    return f"{found}.{rest}" if rest else found
