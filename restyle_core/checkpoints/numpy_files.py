"""Read untrusted numpy files (``.npy`` and ``.npz``) without running code.

Declared sizes are checked before memory is allocated, and every error that numpy and zipfile raise
for an encrypted, damaged or malformed file becomes an :class:`ArrayFileError`.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from restyle.core.errors import reason_of

_HARMLESS_BYTES = 1 << 30
_MOST_RATIO = 100
"""Maximum compression ratio of an array above a gigabyte.

Pictures and latents reach about 2, decompression bombs about 1,000.
"""


class ArrayFileError(ValueError):
    """A numpy file is unreadable or unsafe; the message gives the reason in one line."""


def map_array(path: Path) -> npt.NDArray[Any]:
    """Memory-map the array of a ``.npy`` file, so that a wrong size in its header costs no memory.

    Raises:
        ArrayFileError: the file is missing or damaged, or contains objects.
    """
    with _explained(path):
        mapped: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
        return mapped


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Read the named arrays of an ``.npz`` file; names that the file lacks are left out.

    Raises:
        ArrayFileError: the file is missing, damaged or encrypted, contains objects, or has an
            implausible compression ratio.
    """
    # Not with numpy.load, which allocates memory first and may leave the file open.
    with _explained(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        found = {}
        for name in names:
            try:
                member = archive.getinfo(f"{name}.npy")
            except KeyError:
                continue
            if member.file_size > max(_HARMLESS_BYTES, _MOST_RATIO * member.compress_size):
                raise ArrayFileError(
                    f"{name} unpacks to {member.file_size:,} bytes, {_MOST_RATIO} times and more "
                    "what it takes up"
                )
            with archive.open(member) as packed:
                found[name] = np.lib.format.read_array(packed, allow_pickle=False)
        return found


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        # Opening a pipe would block.
        if not path.is_file():
            raise FileNotFoundError(2, os.strerror(2))
        yield
    except ArrayFileError:
        raise
    except OSError as error:
        raise ArrayFileError(reason_of(error)) from error
    except Exception as error:
        # On malicious files numpy raises almost any exception: RecursionError and MemoryError from
        # parsing a header, TokenError, RuntimeError for encryption, zlib.error, ...
        lines = str(error).splitlines()
        raise ArrayFileError(lines[0] if lines else type(error).__name__) from error
