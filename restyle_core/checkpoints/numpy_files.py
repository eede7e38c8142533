"""Files of numpy from anywhere: ``.npy`` and ``.npz``, read without running code.

What they claim is checked before memory is given to it, and whatever numpy and zipfile raise for an
encrypted, damaged or odd file is one kind of error.
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

_HARMLESS_BYTES = 1 << 30
_MOST_RATIO = 100
"""Times that an array above a gigabyte may be larger than its compressed form; pictures and
latents come to two, what was made to fill a memory to a thousand."""


class ArrayFileError(ValueError):
    """A file that numpy cannot read, or that should not be; says why in one line."""


def map_array(path: Path) -> npt.NDArray[Any]:
    """The array of a ``.npy`` file, mapped: a header that promises more than there is costs little.

    Raises:
        ArrayFileError: it is missing, damaged, or holds objects.
    """
    with _explained(path):
        mapped: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
        return mapped


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Some arrays of an ``.npz`` file, those that it has.

    Raises:
        ArrayFileError: it is missing, damaged, encrypted, holds objects, or unpacks to a multiple
            of itself that no data comes to.
    """
    # Not by numpy's own reader of archives, which allocates first and may leave the file open.
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
        # A pipe would be waited for.
        if not path.is_file():
            raise FileNotFoundError(2, os.strerror(2))
        yield
    except ArrayFileError:
        raise
    except OSError as error:
        raise ArrayFileError(error.strerror or str(error)) from error
    except Exception as error:
        # On files made for it numpy raises nearly anything: RecursionError and MemoryError from
        # parsing a header, TokenError, RuntimeError for encryption, zlib.error, ...
        lines = str(error).splitlines()
        raise ArrayFileError(lines[0] if lines else type(error).__name__) from error
