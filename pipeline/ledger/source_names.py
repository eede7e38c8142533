"""How a person names sources: whole, by their last part, or by a pattern of either.

What a name says literally counts before what it says as a pattern: ``a[1].tiff`` is the file that
is called so, where there is one, and ``a1.tiff`` otherwise.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

IntArray = npt.NDArray[np.int64]

_WHOLE, _LAST, _PATTERN = 1, 2, 3
NO_MATCH = 4
"""The rank of a source that is not meant."""


def source_ranks(sources: pa.ChunkedArray, name: str) -> IntArray:
    """How well each source matches a name, the best lowest.

    Args:
        sources: strings.
        name: with or without ``*``, ``?`` and ``[]``.

    Returns:
        1 for a whole source, 2 for its last part, 3 for a pattern of either; else
        :data:`NO_MATCH`.
    """
    ranks = np.full(len(sources), NO_MATCH, np.int64)
    if any(sign in name for sign in "*?["):
        matches = re.compile(fnmatch.translate(name)).match
        hits = [bool(matches(each) or matches(_last(each))) for each in sources.to_pylist()]
        ranks[hits] = _PATTERN
    if "/" not in name and "::" not in name:
        for before in ("/", "::"):
            ranks[np.asarray(pc.ends_with(sources, pattern=before + name))] = _LAST
    ranks[np.asarray(pc.equal(sources, name))] = _WHOLE
    return ranks


def best_rank(columns: Iterable[pa.ChunkedArray], name: str) -> int:
    """The best rank that any source of several columns has; :data:`NO_MATCH` where none is meant.

    Args:
        columns: of sources; not read further than a whole one.
        name: as for :func:`source_ranks`.
    """
    best = NO_MATCH
    for sources in columns:
        best = min(best, int(source_ranks(sources, name).min(initial=NO_MATCH)))
        if best == _WHOLE:
            break
    return best


def _last(source: str) -> str:
    return re.split(r"/|::", source)[-1]
