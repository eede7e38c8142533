"""Names of dataset files: they follow from who wrote them, and so tell who did."""

from __future__ import annotations

import re


def file_name(dataset: str, owner: str, fingerprint: str, generation: int = 0) -> str:
    """The one file that a unit or a pack may write in a dataset.

    Derived from the owner and the settings alone, so that a unit that is run again, or a worker
    that was thought dead, overwrites rather than adds.

    Args:
        dataset: one of the datasets.
        owner: the unit's name, or ``pack-`` and the pack's.
        fingerprint: of the run's settings.
        generation: how often the file was replaced since, by one with fewer rows.
    """
    suffix = f"-{generation}" if generation else ""
    return f"{dataset}/part-{owner}-{fingerprint[:8]}{suffix}.parquet"


def is_file_of(name: str, owner: str) -> bool:
    """Whether :func:`file_name` may give this name for an owner, whatever the other arguments."""
    return bool(
        re.fullmatch(rf"[^/]+/part-{re.escape(owner)}-\w{{1,8}}(-[1-9]\d*)?\.parquet", name)
    )


def dataset_of(name: str) -> str:
    """The dataset that a file belongs to."""
    return name.partition("/")[0]
