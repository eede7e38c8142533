"""Removal of names from what an output holds besides its datasets: records, logs and pages."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from restyle.pipeline.forgetting.search import Needles, spelled
from restyle.pipeline.forgetting.tombstone import JOURNAL, TOMBSTONE
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.sources.output_names import REPORT_FILE
from restyle.pipeline.storage.filesystem import Storage

FORGOTTEN = "(forgotten)"
_PICTURES = ("strip.png",)
_FOLDERS = ("_set-aside/", "_index/")


def remove_copies(storage: Storage) -> None:
    """Remove what holds copies of rows: files set aside, the index, pages, temporary files."""
    for name in storage.tree():
        if name.startswith(_FOLDERS) or name in (*_PICTURES, REPORT_FILE):
            storage.delete(name)


def scrub(storage: Storage, names: frozenset[str]) -> None:
    """Remove names from run records, logs and other texts of an output.

    Strings in JSON lose the name; other texts lose the lines that have it.

    Args:
        storage: the output.
        names: sources, addresses and ids.
    """
    needles = Needles(names)
    kept = {JOURNAL, TOMBSTONE}
    for name in [*storage.sizes(""), *storage.sizes(ledger.FOLDER)]:
        if name in kept or name.endswith(".parquet") or storage.is_link(name):
            continue
        data = storage.read(name)
        if not needles.within(data):
            continue
        cleaned = None
        if name.endswith(".json"):
            # Values that are nested too deeply to be walked are handled as text.
            with contextlib.suppress(ValueError, RecursionError):
                cleaned = json.dumps(_cleaned(json.loads(data), names), indent=1).encode()
        if cleaned is None:
            cleaned = b"".join(
                line for line in data.splitlines(keepends=True) if not needles.within(line)
            )
        storage.write(name, cleaned)


def _cleaned(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_cleaned(each, names) for each in value]
    if isinstance(value, str):
        # The longest first, because one name may begin with another.
        for name in sorted(names, key=len, reverse=True):
            for spelling in sorted(spelled(name), key=len, reverse=True):
                value = value.replace(spelling.decode("utf-8", "surrogateescape"), FORGOTTEN)
    return value
