"""The method at scale: sources, units of work, ledger, datasets, and reading them back.

::

    from restyle.pipeline import read_latents

    rows, w = read_latents("OUT", where="id_similarity > 0.6")

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restyle.pipeline.results.latents import read_latents

__all__ = ["read_latents"]

_HOMES = {"read_latents": "results.latents"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
