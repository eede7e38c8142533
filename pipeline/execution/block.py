"""Serialization of one unit as an Arrow table of one row, a block of Ray Data.

Ray neither splits nor merges blocks of one row. Large arrays are stored out of band of the pickle
(protocol 5): copied once when a block is made, and read without a copy from Ray's object store,
which keeps them while they are referenced.
"""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pyarrow as pa

# Arrays below this size in bytes stay in the pickle, where they cost less.
_MIN_BUFFER = 4096

_BUFFERS = pa.large_list(pa.large_binary())
_SCHEMA = pa.schema([("unit", pa.string()), ("payload", pa.large_binary()), ("buffers", _BUFFERS)])


def to_block(unit: str, payload: object) -> pa.Table:
    """Serialize a payload.

    Args:
        unit: name of the unit, shown by Ray's tools.
        payload: any object that can be pickled.

    Returns:
        A table of one row with the columns ``unit``, ``payload`` and ``buffers``.
    """
    raw: list[memoryview] = []

    def is_in_band(array: pickle.PickleBuffer) -> bool:
        view = array.raw()
        if view.nbytes >= _MIN_BUFFER:
            raw.append(view)
        return view.nbytes < _MIN_BUFFER

    pickled = pickle.dumps(payload, protocol=5, buffer_callback=is_in_band)
    ends = np.cumsum([0, *(view.nbytes for view in raw)], dtype=np.int64)
    # Arrow's allocator returns buffers of this size to the system, and new pages cost more than
    # the copies.
    joined = np.empty(ends[-1], np.uint8)
    target = joined.data
    for view, start, end in zip(raw, ends[:-1], ends[1:], strict=True):
        target[start:end] = view
    parts = [None, pa.py_buffer(ends), pa.py_buffer(joined)]
    values = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(raw), parts)
    buffers = pa.LargeListArray.from_arrays([0, len(raw)], values, type=_BUFFERS)
    payloads = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(),
        1,
        [None, pa.py_buffer(np.array([0, len(pickled)])), pa.py_buffer(pickled)],
    )
    return pa.table([[unit], payloads, buffers], schema=_SCHEMA)


def payload_of(block: pa.Table) -> Any:
    """Deserialize the payload of a block; its large arrays are read-only views.

    Args:
        block: made by :func:`to_block` in one of this run's workers, since it is unpickled.
    """
    payload = block.column("payload")[0].as_buffer()
    values = block.column("buffers")[0].values
    arrays = []
    if len(values):
        # pyarrow's scalars would be copies.
        _, offsets, joined = values.buffers()
        ends = np.frombuffer(offsets, np.int64)[values.offset :][: len(values) + 1].tolist()
        arrays = [joined.slice(start, end - start) for start, end in itertools.pairwise(ends)]
    return pickle.loads(payload, buffers=arrays)  # noqa: S301


def unit_of(block: pa.Table) -> str:
    """Return the name of a block's unit."""
    name: str = block.column("unit")[0].as_py()
    return name
