"""What the process that reads shards and its parent tell each other."""

from __future__ import annotations

from dataclasses import dataclass

from restyle.core.errors import RestyleError
from restyle.pipeline.sources.formats.shard_service import ShardKey
from restyle.pipeline.sources.formats.source_format import Index


@dataclass(frozen=True)
class Limits:
    """What one request may use.

    Attributes:
        seconds: of the processor, between two pieces of an answer.
        memory: bytes beyond what the process needs when it has started.
    """

    seconds: int
    memory: int


@dataclass(frozen=True)
class GivenFile:
    """A file for the child.

    Attributes:
        shard: what to call it when asking for parts of it.
        size: in bytes.
        version: as listings give it.
        read_ahead: bytes that are worth reading at a time.
        is_local: its descriptor follows the message.
    """

    shard: ShardKey
    size: int
    version: str
    read_ahead: int
    is_local: bool


@dataclass(frozen=True)
class Indexing:
    """Asks what is in a file; answered by pieces."""

    asked: Index
    file: GivenFile


@dataclass(frozen=True)
class Open:
    """Asks to open a shard of a format for its inputs."""

    shard: ShardKey
    file: GivenFile
    kind: str


@dataclass(frozen=True)
class Read:
    """Asks for the bytes of an input; answered by their number and, up to ``most``, themselves."""

    shard: ShardKey
    place: str
    most: int


@dataclass(frozen=True)
class Size:
    """Bytes of an input that come next; -1 when there are none."""

    size: int


@dataclass(frozen=True)
class Close:
    """Asks to let go of a shard."""

    shard: ShardKey


@dataclass(frozen=True)
class Ask:
    """The child asks for a part of a file."""

    shard: ShardKey
    offset: int
    length: int


@dataclass(frozen=True)
class Done:
    """The request is answered."""


@dataclass(frozen=True)
class Failure:
    """The request failed, as whatever reads files fails."""

    error: OSError | RestyleError
