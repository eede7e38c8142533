"""Files of an output as a lazily read Arrow dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from restyle.core.errors import SpecError
from restyle.pipeline.ledger.parquet_files import open_remote
from restyle.pipeline.storage.filesystem import (
    absolute_path,
    local_file,
    local_path,
    open_filesystem,
)


def table_source(out: str, names: Sequence[str]) -> Any:
    """An Arrow dataset over some files.

    Args:
        out: the output, a path or any fsspec URI.
        names: of the files, relative to it; all have the same columns.

    Returns:
        A ``pyarrow.dataset.Dataset``.

    Raises:
        SpecError: the path is not UTF-8, which Arrow cannot open.
    """
    import pyarrow.dataset as ds
    import pyarrow.fs as pafs

    for name in names:
        local_file(out, name)
    path = local_path(out)
    if path is not None:
        filesystem: Any = pafs.LocalFileSystem()
        root = absolute_path(path)
        try:
            os.fsencode(root).decode()
        except UnicodeDecodeError as error:
            raise SpecError(
                f"{root!a} is no UTF-8, and Arrow opens no other folders; rename it, or name a "
                "link to it"
            ) from error
    else:
        remote, root = open_filesystem(out)
        filesystem = pafs.PyFileSystem(_handler(remote))
    return ds.dataset([f"{root.rstrip('/')}/{name}" for name in names], filesystem=filesystem)


def _handler(remote: Any) -> Any:
    import pyarrow.fs as pafs

    class Handler(pafs.FSSpecHandler):  # type: ignore[misc]
        """Opens files with retries of transient failures."""

        def open_input_file(self, path: str) -> pa.NativeFile:
            return open_remote(remote, path, path)

        def __eq__(self, other: object) -> bool:
            return self is other

        __hash__ = object.__hash__

    return Handler(remote)
