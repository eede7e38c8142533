"""One unit on its way between workers, as an Arrow table of one row.

Ray neither splits nor merges blocks of one row. Pixels lie beside the pickled rest, copied once
when a block is made and not at all when it is read: what is read then lies in Ray's
object store, for as long as anything refers to it.
"""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pyarrow as pa

# Bytes; smaller arrays cost less in the pickle than beside it.
_LEAST = 4096

_BUFFERS = pa.large_list(pa.large_binary())
_SCHEMA = pa.schema([("unit", pa.string()), ("payload", pa.large_binary()), ("buffers", _BUFFERS)])


def to_block(unit: str, payload: object) -> pa.Table:
    """A block of one row.

    Args:
        unit: whose it is; for whoever looks at Ray's blocks.
        payload: anything that can be pickled; its large arrays travel beside the pickle.
    """
    raw: list[memoryview] = []

    def stays(array: pickle.PickleBuffer) -> bool:
        view = array.raw()
        if view.nbytes >= _LEAST:
            raw.append(view)
        return view.nbytes < _LEAST

    pickled = pickle.dumps(payload, protocol=5, buffer_callback=stays)
    ends = np.cumsum([0, *(view.nbytes for view in raw)], dtype=np.int64)
    # Arrow's own allocator gives buffers of this size back, and fresh pages cost more than copies.
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
    """The payload; its large arrays cannot be written to.

    Args:
        block: from one of this project's own workers, since it is unpickled.
    """
    payload = block.column("payload")[0].as_buffer()
    values = block.column("buffers")[0].values
    arrays = []
    if len(values):
        # By hand: pyarrow's own scalars are copies.
        _, offsets, joined = values.buffers()
        ends = np.frombuffer(offsets, np.int64)[values.offset :][: len(values) + 1].tolist()
        arrays = [joined.slice(start, end - start) for start, end in itertools.pairwise(ends)]
    return pickle.loads(payload, buffers=arrays)  # noqa: S301


def unit_of(block: pa.Table) -> str:
    """The name of the unit that a block was made of."""
    name: str = block.column("unit")[0].as_py()
    return name
