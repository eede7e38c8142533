"""What is in a shard or a list, and the rows of a shard, with every failure told as a reject.

Runs in a child process (:mod:`restyle.pipeline.sources.formats.shard_child`), because the readers
are native code in part, and files can be made that crash them, hold them up or swell in memory.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from restyle.core.errors import RejectError, RejectReason, RestyleError
from restyle.pipeline.sources.formats.parquet_columns import (
    choose_column,
    described,
    open_parquet_file,
    parquet_entries,
    rows_of_groups,
)
from restyle.pipeline.sources.formats.parquet_rows import ParquetRows
from restyle.pipeline.sources.formats.tar_shard import tar_images
from restyle.pipeline.sources.formats.text_lists import text_entries
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.ranged_file import RangedFile
from restyle.pipeline.sources.source_image import SourceImage

_MEMBERS_AT_ONCE = 1024

ShardKind = Literal["tar", "parquet", "text"]


@dataclass(frozen=True)
class Index:
    """What is asked about a shard or a list.

    Attributes:
        kind: of the file.
        file: as an input.
        options: how it is to be read.
        in_list: a list names it, so that it can be no further list.
    """

    kind: ShardKind
    file: SourceImage
    options: InputOptions
    in_list: bool = False


@dataclass(frozen=True)
class Members:
    """Members of an archive: id, source, size, place and fault of each."""

    rows: list[tuple[str, str, int, str, str]]


@dataclass(frozen=True)
class Skipped:
    """Members of an archive that were passed over, by extension."""

    members: Counter[str]


@dataclass(frozen=True)
class Rows:
    """The rows of each row group of a Parquet file, and the column that holds the images."""

    column: str
    groups: list[int]


@dataclass(frozen=True)
class NoColumn:
    """No column can be meant; names and types of those that there are."""

    columns: str


@dataclass(frozen=True)
class Entries:
    """Entries of a list; None for those that are null."""

    values: Sequence[str | None]


ShardKey = tuple[bytes, str]
"""URI and version of a shard, which tell it from all others."""

Piece = Members | Skipped | Rows | NoColumn | Entries


class ShardService:
    """Indexes shards and lists, and reads rows of shards."""

    def __init__(self) -> None:
        self._shards: dict[ShardKey, ParquetRows] = {}

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
            if asked.kind == "tar":
                yield from _members(file, asked)
            elif asked.kind == "parquet":
                yield from _columns(file, asked)
            else:
                extension = asked.file.uri.rpartition(b".")[2].lower().decode("ascii", "replace")
                column, shown = asked.options.column, asked.file.source
                yield from map(Entries, text_entries(file, extension, column, shown))

    def open(self, shard: ShardKey, file: RangedFile) -> None:
        """Open a Parquet file for :meth:`row`; it is closed with the shard.

        Args:
            shard: what it is called.
            file: the file.
        """
        with shard_errors("the Parquet file cannot be read"):
            self._shards[shard] = ParquetRows(file)

    def row(self, shard: ShardKey, group: int, row: int, column: str) -> bytes | None:
        """The bytes in one row of an open shard; None where there are none.

        Raises:
            RejectError: it is damaged or takes too much.
            OSError: it cannot be read.
        """
        with shard_errors("the row cannot be unpacked"):
            return self._shards[shard].read(group, row, column)

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


def _members(file: RangedFile, asked: Index) -> Iterator[Piece]:
    skipped: Counter[str] = Counter()
    images = tar_images(asked.file, file, skipped)
    while some := list(islice(images, _MEMBERS_AT_ONCE)):
        yield Members([(i.image_id, i.source, i.size, i.place, i.fault) for i in some])
    yield Skipped(skipped)


def _columns(file: RangedFile, asked: Index) -> Iterator[Piece]:
    with open_parquet_file(file) as parquet:
        schema = parquet.schema_arrow
        column = choose_column(schema, asked.options, asked.file.source)
        if column is None or (asked.in_list and not column.holds_images):
            yield NoColumn(described(schema))
        elif column.holds_images:
            yield Rows(column.name, rows_of_groups(parquet.metadata, file.size, 8.0))
        else:
            rows_of_groups(parquet.metadata, file.size, 0.25)
            yield from map(Entries, parquet_entries(parquet, column.name))
