"""Seen before: new inputs that look like those of another ``INPUT``, as of a folder that was moved.

An input is known by its address. A folder that was moved, or is given through a link, has others,
and its photographs are inverted once more. Whether that is meant only a person knows.
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
"""Of the new inputs, that must look alike: single files of the same name and size are chance."""


def seen_before(manifest: Manifest, written: Collection[str], source: str) -> str:
    """What a person should hear of inputs that were just planned.

    Args:
        manifest: of the output.
        written: those of its files that are new.
        source: ``INPUT`` in full.

    Returns:
        A sentence; empty when the inputs look like none from elsewhere.

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
    """A number for name and size of each input of a file whose size is known."""
    try:
        rows = file.parquet.read(columns=["source", "size"], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise damaged(storage, file.name, error) from error
    named = zip(rows["source"].to_pylist(), rows["size"].to_pylist(), strict=True)
    keys = [hash((re.split(r"/|::", name)[-1], size)) for name, size in named if size > 0]
    return np.array(keys, np.int64)
