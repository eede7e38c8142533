"""What is in a shard or a list, and the inputs in a shard, with every failure told as a reject.

Runs in a child process (:mod:`restyle.pipeline.sources.formats.shard_child`), because the readers
are native code in part, and files can be made that crash them, hold them up or swell in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from restyle.core.errors import RejectError, RejectReason, RestyleError
from restyle.pipeline.sources.formats.source_format import FORMATS, Index, Piece, Shard
from restyle.pipeline.sources.ranged_file import RangedFile

ShardKey = tuple[bytes, str]
"""URI and version of a shard, which tell it from all others."""


class ShardService:
    """Indexes shards and lists, and reads inputs of shards."""

    def __init__(self) -> None:
        self._shards: dict[ShardKey, Shard] = {}

    def index(self, file: RangedFile, asked: Index) -> Iterator[Piece]:
        """What is in a file, piece by piece.

        Args:
            file: is closed by the caller.
            asked: what it is.

        Raises:
            RejectError: after the last sound piece, where it is damaged or takes too much.
            SpecError: it is no list, or has several columns that can be meant or not the one that
                is asked for.
            OSError: it cannot be read.
        """
        with shard_errors("the file cannot be read"):
            yield from FORMATS[asked.kind].index(file, asked)

    def open(self, shard: ShardKey, file: RangedFile, kind: str) -> None:
        """Open a file for :meth:`read`; it is closed with the shard.

        Args:
            shard: what it is called.
            file: the file.
            kind: name of its format.
        """
        with shard_errors("the file cannot be read"):
            self._shards[shard] = FORMATS[kind].open(file)

    def read(self, shard: ShardKey, place: str) -> bytes | None:
        """The bytes of one input of an open shard; None where there are none.

        Raises:
            RejectError: it is damaged or takes too much.
            OSError: it cannot be read.
        """
        with shard_errors("it cannot be unpacked"):
            return self._shards[shard].read(place)

    def close(self, shard: ShardKey) -> None:
        """Let go of a shard."""
        if shard in self._shards:
            self._shards.pop(shard).close()


@contextlib.contextmanager
def shard_errors(what: str) -> Iterator[None]:
    """Turn whatever a reader raises into a reject: it depends on nothing but the file."""
    try:
        yield
    except (RestyleError, OSError):
        raise
    except MemoryError as error:
        message = f"{what}: it takes more memory than one input may"
        raise RejectError(RejectReason.TOO_LARGE, message) from error
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RejectError(RejectReason.DAMAGED_ARCHIVE, f"{what}: {reason}") from error
