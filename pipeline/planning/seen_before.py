"""Detection of new inputs that resemble those of another ``INPUT``, such as a moved folder.

Inputs are identified by their address. If a folder is moved, or given through a link, its
photographs have new addresses and are inverted a second time. Only the user knows whether that is
intended, so a note describes the case.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.pipeline.ledger.manifest import PlanFile, damaged, read_plans
from restyle.pipeline.ledger.output import Manifest
from restyle.pipeline.storage.filesystem import Storage

_SHARE = 0.5
"""Minimum share of similar new inputs; a few files of equal name and size may be coincidence."""


def seen_before(manifest: Manifest, written: Collection[str], source: str) -> str:
    """Compare new inputs by name and size with inputs planned from other sources.

    Args:
        manifest: the manifest of the output.
        written: paths of the plan files with the new inputs.
        source: absolute ``INPUT``, as in :class:`restyle.pipeline.ledger.manifest.Origin`.

    Returns:
        A note for the user; empty if fewer than half of the new inputs resemble another source's.

    Raises:
        FatalError: the manifest is damaged.
    """
    new = array("q")
    others: dict[str, array[int]] = {}
    storage = manifest.storage
    for file in read_plans(storage, manifest.plans):
        if file.name in written:
            new.extend(_keys(storage, file))
        elif file.origin.input not in ("", source):
            others.setdefault(file.origin.input, array("q")).extend(_keys(storage, file))
    alike = {former: _alike(new, keys) for former, keys in others.items()}
    former = max(alike, key=lambda name: alike[name], default="")
    if not former or alike[former] < _SHARE * len(new):
        return ""
    plans = ", ".join(storage.shown(name) for name in written)
    return (
        f"{alike[former]} of {len(new)} new inputs have names and sizes of inputs planned from "
        f"{former}: if the folder was moved, or is given through a link, they are inverted a "
        f"second time. To continue with their former rows instead, end this, delete {plans}, and "
        f"give INPUT as {former} (a link there to where they are now will do)"
    )


def _alike(new: array[int], others: array[int]) -> int:
    return int(np.isin(np.asarray(new), np.asarray(others)).sum())


def _keys(storage: Storage, file: PlanFile) -> npt.NDArray[np.int64]:
    """Return a hash of name and size for each input with a known size; (n,), int64."""
    try:
        rows = file.parquet.read(columns=["source", "size"], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise damaged(storage, file.name, error) from error
    named = zip(rows["source"].to_pylist(), rows["size"].to_pylist(), strict=True)
    keys = [hash((re.split(r"/|::", name)[-1], size)) for name, size in named if size > 0]
    return np.array(keys, np.int64)
