"""Selection of sources by a user-given name: whole, by the last part, or by a pattern of either.

A literal match takes precedence over a pattern match: ``a[1].tiff`` selects the file of exactly
that name if it exists, and ``a1.tiff`` otherwise.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from restyle.core.shown_text import decodable, recorded
from restyle.pipeline.storage.addresses import absolute_uri

IntArray = npt.NDArray[np.int64]

_WHOLE, _LAST, _PATTERN = 1, 2, 3
NO_MATCH = 4
"""Rank of a source that does not match."""


def source_ranks(sources: pa.ChunkedArray, name: str) -> IntArray:
    """Rank how well each source matches a name; lower is better.

    Args:
        sources: a string column of n sources.
        name: a name as the file system has it or as the datasets do, or a pattern with ``*``,
            ``?`` or ``[]``. One with a slash may be a path relative to the working directory.

    Returns:
        Array of shape (n,), int64: 1 if the name equals the source, 2 if it equals the last part,
        3 if it matches either as a pattern, else :data:`NO_MATCH`.
    """
    # Datasets have names escaped; those that were written before that have line breaks as they are.
    spelled = {name, absolute_uri(name)} if "/" in name else {name}
    forms = {form(each) for each in spelled for form in (recorded, decodable)}
    best: IntArray = np.minimum.reduce([_ranks(sources, form) for form in forms])
    return best


def _ranks(sources: pa.ChunkedArray, name: str) -> IntArray:
    ranks = np.full(len(sources), NO_MATCH, np.int64)
    if any(sign in name for sign in "*?["):
        matches = re.compile(fnmatch.translate(name)).match
        hits = [bool(matches(each) or matches(last_part(each))) for each in sources.to_pylist()]
        ranks[hits] = _PATTERN
    if "/" not in name and "::" not in name:
        for before in ("/", "::"):
            ranks[np.asarray(pc.ends_with(sources, pattern=before + name))] = _LAST
    ranks[np.asarray(pc.equal(sources, name))] = _WHOLE
    return ranks


def best_rank(columns: Iterable[pa.ChunkedArray], name: str) -> int:
    """Return the best rank of any source; :data:`NO_MATCH` if none matches.

    Args:
        columns: string columns of sources; iteration stops at the first exact match.
        name: a name or pattern, as for :func:`source_ranks`.
    """
    best = NO_MATCH
    for sources in columns:
        best = min(best, int(source_ranks(sources, name).min(initial=NO_MATCH)))
        if best == _WHOLE:
            break
    return best


def last_part(source: str) -> str:
    """Return the last part of a source: the name of its file, or of its member of an archive."""
    return re.split(r"/|::", source)[-1]
