"""Search of all bytes of an output or a folder for what was forgotten."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.pipeline.forgetting.tombstone import JOURNAL, TOMBSTONE
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.storage.filesystem import Storage

_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_KEY = 8
_TAGS: dict[str, str | int | None] = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ENTITIES: tuple[dict[str, str | int | None], ...] = (
    _TAGS,
    _TAGS | {'"': "&#34;", "'": "&#39;"},
    _TAGS | {'"': "&quot;", "'": "&#x27;"},
    _TAGS | {'"': "&quot;", "'": "&#39;"},
)
"""Characters as templates and libraries write them in HTML."""


@dataclass
class Searched:
    """Result of a search.

    Attributes:
        found: One line for each file that holds something.
        files: Number of files.
        size: Their bytes.
    """

    found: list[str] = field(default_factory=list)
    files: int = 0
    size: int = 0


class Needles:
    """Byte strings to search for, in every spelling that this project's files use.

    Args:
        names: sources, addresses and ids.
        samples: bytes of latents and pictures.
    """

    def __init__(self, names: Iterable[str], samples: Iterable[bytes] = ()) -> None:
        spellings = {spelling for name in names for spelling in spelled(name)}
        spellings |= {spelling for sample in samples for spelling in _sampled(sample)}
        self._short = [each for each in spellings if len(each) < _KEY]
        self._long: dict[int, list[bytes]] = {}
        for each in spellings - set(self._short):
            key = int.from_bytes(each[:_KEY], "little")
            self._long.setdefault(key, []).append(each)
        self._keys = np.array(sorted(self._long), np.uint64)

    def within(self, data: bytes | memoryview) -> bool:
        """Whether any of them is in some bytes."""
        view = memoryview(data).cast("B")
        if self._short:
            whole = view.tobytes()
            if any(each in whole for each in self._short):
                return True
        # Every eight bytes at every offset, compared with the first eight of all needles at once.
        return any(self._at_offset(view, offset) for offset in range(_KEY) if len(self._keys))

    def _at_offset(self, view: memoryview, offset: int) -> bool:
        count = (len(view) - offset) // _KEY
        if count <= 0:
            return False
        words: npt.NDArray[np.uint64] = np.frombuffer(view, "<u8", count, offset)
        places = np.searchsorted(self._keys, words)
        places[places == len(self._keys)] = 0
        for index in np.flatnonzero(self._keys[places] == words).tolist():
            start = offset + _KEY * index
            for each in self._long[int(words[index])]:
                if view[start : start + len(each)] == each:
                    return True
        return False


def spelled(name: str) -> set[bytes]:
    """A name as it may stand in files: plain, and escaped for JSON, HTML and addresses."""
    texts = {name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1]}
    texts |= {name.translate(str.maketrans(entities)) for entities in _ENTITIES}
    encoded = name.encode("utf-8", "surrogateescape")
    texts |= {urllib.parse.quote(encoded), urllib.parse.quote(encoded, safe="")}
    return {text.encode("utf-8", "surrogateescape") for text in texts}


def _sampled(sample: bytes) -> set[bytes]:
    """Bytes as they are, and inside of base64 at any position."""
    shifted = {base64.b64encode(sample[skip:][: len(sample[skip:]) // 3 * 3]) for skip in range(3)}
    return {sample, *shifted}


def search(storage: Storage, needles: Needles, is_forgotten: Callable[[str], bool]) -> Searched:
    """Search every file below a folder, and the decoded columns of Parquet files.

    Args:
        storage: the folder.
        needles: what to search for.
        is_forgotten: whether an ``image_id`` belongs to a forgotten input.

    Raises:
        FatalError: a file cannot be read.
    """
    result = Searched()
    for name, size in storage.tree().items():
        if name in (JOURNAL, TOMBSTONE):
            continue
        # A link's target belongs to somebody else.
        data = b"" if storage.is_link(name) else storage.read(name)
        result.files += 1
        result.size += size
        if _holds(name, data, needles, is_forgotten):
            result.found.append(f"{storage.shown(name)} holds something of a forgotten input")
    return result


def _holds(name: str, data: bytes, needles: Needles, is_forgotten: Callable[[str], bool]) -> bool:
    if needles.within(name.encode("utf-8", "surrogateescape")) or needles.within(data):
        return True
    if any(is_forgotten(match.group().decode()) for match in _ID.finditer(data)):
        return True
    if not name.endswith(".parquet"):
        return False
    return any(
        needles.within(buffer) or _names_forgotten(rows, is_forgotten)
        for rows in _groups(data)
        for buffer in _buffers(rows)
    )


def _groups(data: bytes) -> Iterator[pa.Table]:
    try:
        parquet = parquet_of(data)
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, use_threads=False)
    except (pa.ArrowException, OSError):
        # Bytes that are no Parquet file were searched as they are.
        return


def _buffers(rows: pa.Table) -> Iterator[memoryview]:
    for column in rows.columns:
        for chunk in column.chunks:
            yield from (memoryview(each) for each in chunk.buffers() if each is not None)


def _names_forgotten(rows: pa.Table, is_forgotten: Callable[[str], bool]) -> bool:
    if "image_id" not in rows.column_names:
        return False
    return any(is_forgotten(each) for each in set(rows.column("image_id").to_pylist()))
