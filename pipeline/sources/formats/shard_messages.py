"""Messages between the child process that reads shards and its parent."""

from __future__ import annotations

from dataclasses import dataclass

from restyle.core.errors import RestyleError
from restyle.pipeline.sources.formats.shard_service import ShardKey
from restyle.pipeline.sources.formats.source_format import Index


@dataclass(frozen=True)
class Limits:
    """Resource limits of one request.

    Attributes:
        seconds: maximum CPU time between two pieces of an answer.
        memory: maximum number of bytes beyond the memory in use after the start of the process.
    """

    seconds: int
    memory: int


@dataclass(frozen=True)
class GivenFile:
    """Description of a file that the parent passes to the child.

    Attributes:
        shard: key by which the child requests parts of the file.
        size: size in bytes.
        version: version as in listings.
        read_ahead: recommended number of bytes per read.
        is_local: whether a file descriptor follows the message.
    """

    shard: ShardKey
    size: int
    version: str
    read_ahead: int
    is_local: bool


@dataclass(frozen=True)
class Indexing:
    """Request for the contents of a file; the answer is a sequence of pieces."""

    asked: Index
    file: GivenFile


@dataclass(frozen=True)
class Open:
    """Request to open a shard of a given format."""

    shard: ShardKey
    file: GivenFile
    kind: str


@dataclass(frozen=True)
class Read:
    """Request for an input; the answer is its number of bytes and, up to ``most``, the bytes."""

    shard: ShardKey
    place: str
    most: int


@dataclass(frozen=True)
class Size:
    """Number of bytes of the input that follow; -1 if there are none."""

    size: int


@dataclass(frozen=True)
class Close:
    """Request to close a shard."""

    shard: ShardKey


@dataclass(frozen=True)
class Ask:
    """Request from the child to the parent for a part of a file."""

    shard: ShardKey
    offset: int
    length: int


@dataclass(frozen=True)
class Done:
    """End of the answer to a request."""


@dataclass(frozen=True)
class Failure:
    """Failure of a request, with the error to raise in the parent."""

    error: OSError | RestyleError
