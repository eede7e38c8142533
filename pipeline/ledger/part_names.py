"""Names of dataset files, which identify the unit or pack that owns the file."""

from __future__ import annotations

import re


def file_name(dataset: str, owner: str, fingerprint: str, generation: int = 0) -> str:
    """Return the path of a unit's or pack's only file in a dataset, relative to the output.

    The name depends only on the owner and the settings, so that a unit that runs again, or a worker
    presumed dead, overwrites the file instead of adding another one.

    Args:
        dataset: name of the dataset.
        owner: name of the unit, or ``pack-`` and the name of the pack.
        fingerprint: the fingerprint of the output's settings.
        generation: number of times that a file with fewer rows has replaced the first one.
    """
    suffix = f"-{generation}" if generation else ""
    return f"{dataset}/part-{owner}-{fingerprint[:8]}{suffix}.parquet"


def is_file_of(name: str, owner: str) -> bool:
    """Whether :func:`file_name` can return this name for an owner."""
    return bool(
        re.fullmatch(rf"[^/]+/part-{re.escape(owner)}-\w{{1,8}}(-[1-9]\d*)?\.parquet", name)
    )


def dataset_of(name: str) -> str:
    """Return the dataset of a file, given its path relative to the output."""
    return name.partition("/")[0]
