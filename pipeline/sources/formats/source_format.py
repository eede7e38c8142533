"""Formats of files that hold several inputs or name them. Imports no reader.

A format is one file in ``pipeline/sources/formats/registered`` with a :class:`SourceFormat` called
``FORMAT``. Another package registers one of its own in the entry point group ``restyle.sources``.
Planning asks it what is in a file, and a run for one input after another; both happen in a child
process that such a file cannot take down with it.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from restyle.core.errors import FatalError, RejectReason
from restyle.core.registry import Registry, constants_of
from restyle.core.shown_text import recorded, visible
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage, image_id

if TYPE_CHECKING:
    from restyle.pipeline.sources.ranged_file import RangedFile

HEAD_BYTES = 512
"""Of a file that :meth:`SourceFormat.begins` is shown."""

_AT_ONCE = 1024
_LONGEST_EXTENSION = 64


@dataclass(frozen=True)
class Index:
    """What is asked about a file.

    Attributes:
        kind: name of its format.
        file: as an input.
        options: how it is to be read.
        in_list: a list names it, so that it can be no further list.
        is_named: ``INPUT`` itself names it; otherwise what it is must be certain.
    """

    kind: str
    file: SourceImage
    options: InputOptions
    in_list: bool = False
    is_named: bool = False


@dataclass(frozen=True)
class Members:
    """Inputs in a file: id, source, size, place and fault of each."""

    rows: list[tuple[str, str, int, str, str]]


@dataclass(frozen=True)
class Skipped:
    """Members of a file that were passed over, by extension."""

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
    """Entries of a list.

    Attributes:
        values: None for those that are null.
        numbers: where each stands; counted from 1 where none are given.
        unit: what is counted so, lines or rows.
    """

    values: Sequence[str | None]
    numbers: Sequence[int] = ()
    unit: str = "line"


Piece = Members | Skipped | Rows | NoColumn | Entries


@dataclass(frozen=True)
class Member:
    """An input in a file, as a format tells of it.

    Attributes:
        name: unlike those of the others.
        place: where it is, in the format's own words.
        size: bytes; -1 when unknown.
    """

    name: str
    place: str
    size: int = -1


class Shard(Protocol):
    """An open file. One thread at a time uses it."""

    def read(self, place: str) -> bytes | None:
        """The bytes of one input; None where there are none.

        Args:
            place: as :meth:`SourceFormat.index` gave it, without the prefix.

        Raises:
            RejectError: it is damaged or takes too much.
            OSError: it cannot be read.
        """

    def close(self) -> None:
        """Let go of the file."""


class SourceFormat(ABC):
    """A kind of file that holds inputs or names them.

    Attributes:
        name: by which ``--input-format`` means it.
        extensions: of its files, in small letters, without the first dot.
        compressed: extensions of such files within a compression, whose inputs cannot be read
            singly; they are rejected.
        names_inputs: files may be lists, which ``--input-format list`` also reads.
        only_as_input: files are recognised only where ``INPUT`` names them themselves, not in a
            folder or a list.
        prefix: of the places of its inputs; the name when empty.
        is_contiguous: an input's place is its offset, where its bytes lie as they are; it is read
            without a child process.
        readers: modules that read such files; the child imports them before the limit of its memory
            holds.
        position: in lists, among this project's own.
    """

    name: str
    extensions: tuple[str, ...]
    compressed: tuple[str, ...] = ()
    names_inputs: bool = False
    only_as_input: bool = False
    prefix: str = ""
    is_contiguous: bool = False
    readers: tuple[str, ...] = ()
    position: int = 100

    def begins(self, _head: bytes) -> bool:
        """Whether a file is one by its first :data:`HEAD_BYTES`, where its name does not tell."""
        return False

    @abstractmethod
    def index(self, file: RangedFile, asked: Index) -> Iterator[Piece]:
        """What is in a file, piece by piece; see :meth:`members`.

        Args:
            file: is closed by the caller.
            asked: what it is.

        Raises:
            RejectError: after the last sound piece, where it is damaged or takes too much.
            SpecError: it cannot be meant so, or options are missing.
            OSError: it cannot be read.
        """

    def open(self, _file: RangedFile) -> Shard:
        """Open a file for its inputs; it is closed with the shard.

        Raises:
            RejectError, OSError: it cannot be read.
        """
        raise NotImplementedError(f"{self.name} reads no inputs in a child process")

    def part_of(self, _place: str) -> tuple[int, int]:
        """The part of a file that an input lies in, and its number in there.

        Where reading an input crashed, those behind it in its part are not tried.
        """
        return 0, 0

    def members(self, asked: Index, found: Iterable[Member]) -> Iterator[Members]:
        """The pieces that tell of inputs in a file, some thousand at a time.

        Args:
            asked: as for :meth:`index`.
            found: the inputs; those with the name of an earlier one are rejected.
        """
        seen: Counter[str] = Counter()
        rows = (self._row(asked.file, member, seen) for member in found)
        while some := list(islice(rows, _AT_ONCE)):
            yield Members(some)

    def _row(
        self, file: SourceImage, member: Member, seen: Counter[str]
    ) -> tuple[str, str, int, str, str]:
        number = seen[member.name]
        seen[member.name] += 1
        identity = file.uri + b"::" + member.name.encode("utf-8", "surrogateescape")
        fault = ""
        if number:
            # No name holds a zero byte, so that no other member can have this identity.
            identity += b"\0%d" % number
            fault = f"{RejectReason.DUPLICATE_NAME}|an earlier member has the same name"
        source = f"{file.source}::{recorded(member.name)}"
        place = f"{prefix_of(self)}:{member.place}"
        return image_id(identity), source, member.size, place, fault


FORMATS: Registry[SourceFormat] = Registry(
    SourceFormat,  # type: ignore[type-abstract]
    "source format",
    lambda: constants_of("restyle.pipeline.sources.formats.registered", "FORMAT"),
    "restyle.sources",
)
"""Every format there is, by name."""


def prefix_of(of: SourceFormat) -> str:
    """What the places of a format's inputs begin with."""
    return of.prefix or of.name


def format_named(name: bytes) -> tuple[SourceFormat, bool] | None:
    """The format of a file by its name, and whether it is compressed; None for a single input.

    Raises:
        SpecError: a package that brings a format cannot be used.
    """
    known = _by_extension()
    *_, before, last = [b"", b"", *name[-_LONGEST_EXTENSION:].lower().split(b".")]
    return known.get(before + b"." + last) or known.get(last)


def format_beginning(head: bytes) -> SourceFormat | None:
    """The format of a file by its first :data:`HEAD_BYTES`."""
    return next((each for each in FORMATS.values() if each.begins(head)), None)


def format_of(image: SourceImage) -> SourceFormat | None:
    """The format of the file that holds an input; None where it is a file itself.

    Raises:
        FatalError: no package here reads the format that the input was planned with.
    """
    prefix, within, _ = image.place.partition(":")
    if not within:
        return None
    if prefix not in _by_prefix():
        raise FatalError(
            f"{visible(image.source)} was planned by a package that reads the format "
            f"{visible(prefix)} and is not installed here; install it"
        )
    return _by_prefix()[prefix]


@functools.cache
def _by_extension() -> dict[bytes, tuple[SourceFormat, bool]]:
    # This project's own come first, and keep their names.
    found: dict[bytes, tuple[SourceFormat, bool]] = {}
    for each in FORMATS.values():
        for extension in each.extensions:
            found.setdefault(extension.encode(), (each, False))
        for extension in each.compressed:
            found.setdefault(extension.encode(), (each, True))
    return found


@functools.cache
def _by_prefix() -> dict[str, SourceFormat]:
    return {prefix_of(each): each for each in reversed([*FORMATS.values()])}
