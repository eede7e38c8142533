"""Markers of folders that hold something else than an output: files of a fixed name."""

from __future__ import annotations

from restyle.pipeline.storage.storage import Storage

EXPORT, PAGE, EVALUATION = "restyle-export.json", "restyle-view.json", "restyle-evaluation.json"

_HOLDS = {EXPORT: "an export", PAGE: "a page of restyle view", EVALUATION: "an evaluation"}


def marked_as(storage: Storage, but: str = "") -> str:
    """Return what a folder holds by its marker, as ``an export``; empty if it has none.

    Args:
        storage: the folder.
        but: a marker that does not count, because the caller writes it.

    Raises:
        FatalError: the folder cannot be read.
    """
    found = storage.sizes("", prefix="restyle-").keys() & (_HOLDS.keys() - {but})
    return _HOLDS[min(found)] if found else ""
