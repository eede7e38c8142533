"""Index shards and lists, and read the inputs of shards; parser errors become rejects.

The service runs in a child process (:mod:`restyle.pipeline.sources.formats.shard_child`), because
parts of the readers are native code, and a malicious file can crash them, block them or exhaust
memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from restyle.core.errors import RejectError, RejectReason, RestyleError, first_line_of
from restyle.pipeline.sources.formats.source_format import FORMATS, Index, Piece, Shard
from restyle.pipeline.sources.landmarks.reader import KIND as LANDMARKS
from restyle.pipeline.sources.landmarks.reader import read_faces
from restyle.pipeline.sources.ranged_file import RangedFile

ShardKey = tuple[bytes, str]
"""URI and version, which identify a shard."""


class ShardService:
    """Service that indexes shards and lists, and reads inputs of shards."""

    def __init__(self) -> None:
        self._shards: dict[ShardKey, Shard] = {}

    def index(self, file: RangedFile, asked: Index) -> Iterator[Piece]:
        """Yield the contents of a file of inputs or of landmarks, piece by piece.

        Args:
            file: open file; the caller closes it.
            asked: the file's format and options.

        Raises:
            RejectError: the file is damaged or exceeds a limit; raised after the last valid piece.
            SpecError: the file is not a list, or the requested column is missing or ambiguous.
            OSError: the file cannot be read.
        """
        with shard_errors("the file cannot be read"):
            if asked.kind == LANDMARKS:
                yield from read_faces(file, asked.file.source)
            else:
                yield from FORMATS[asked.kind].index(file, asked)

    def open(self, shard: ShardKey, file: RangedFile, kind: str) -> None:
        """Open a shard for :meth:`read`; closing the shard closes the file.

        Args:
            shard: key of the shard.
            file: open file.
            kind: name of its format.
        """
        with shard_errors("the file cannot be read"):
            self._shards[shard] = FORMATS[kind].open(file)

    def read(self, shard: ShardKey, place: str) -> bytes | None:
        """Return the bytes of one input of an open shard; None if it has none.

        Raises:
            RejectError: the input is damaged or exceeds a limit.
            OSError: the shard cannot be read.
        """
        with shard_errors("it cannot be unpacked"):
            return self._shards[shard].read(place)

    def close(self, shard: ShardKey) -> None:
        """Close a shard if it is open."""
        if shard in self._shards:
            self._shards.pop(shard).close()


@contextlib.contextmanager
def shard_errors(what: str) -> Iterator[None]:
    """Convert unexpected errors of a reader into rejects: only the file can have caused them."""
    try:
        yield
    except (RestyleError, OSError):
        raise
    except MemoryError as error:
        message = f"{what}: it takes more memory than one input may"
        raise RejectError(RejectReason.TOO_LARGE, message) from error
    except Exception as error:
        reason = first_line_of(error)
        raise RejectError(RejectReason.DAMAGED_ARCHIVE, f"{what}: {reason}") from error
