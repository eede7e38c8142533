"""Formats of files that contain several inputs or name them. This module imports no reader.

A format is a module in ``pipeline/sources/formats/registered`` with a :class:`SourceFormat` called
``FORMAT``. Other packages register formats in the entry point group ``restyle.sources``. Planning
calls a format to index a file, and a run calls it to read single inputs; both happen in a child
process, whose crash does not affect the caller.
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
from restyle.pipeline.sources.landmarks.marked_faces import MarkedFaces
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage, image_id

if TYPE_CHECKING:
    from restyle.pipeline.sources.ranged_file import RangedFile

HEAD_BYTES = 512
"""Number of bytes that :meth:`SourceFormat.begins` receives."""

_AT_ONCE = 1024
_LONGEST_EXTENSION = 64


@dataclass(frozen=True)
class Index:
    """Request to index a file.

    Attributes:
        kind: name of its format; or ``landmarks``.
        file: the file as an input.
        options: options that control how it is read.
        in_list: whether a list names the file, in which case it must not be another list.
        is_named: whether ``INPUT`` itself names the file; otherwise its content must be
            unambiguous.
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
    """Number of skipped members of a file, by extension."""

    members: Counter[str]


@dataclass(frozen=True)
class Rows:
    """The number of rows of each row group of a Parquet file, and the column with the images."""

    column: str
    groups: list[int]


@dataclass(frozen=True)
class NoColumn:
    """No column is suitable; ``columns`` describes the existing names and types."""

    columns: str


@dataclass(frozen=True)
class Entries:
    """Entries of a list.

    Attributes:
        values: texts of the entries; None for null values.
        numbers: number of each entry in the list; counted from 1 if empty.
        unit: unit of these numbers, ``line`` or ``row``.
    """

    values: Sequence[str | None]
    numbers: Sequence[int] = ()
    unit: str = "line"


Piece = Members | Skipped | Rows | NoColumn | Entries | MarkedFaces


@dataclass(frozen=True)
class Member:
    """An input in a file, as its format reports it.

    Attributes:
        name: name, unique in the file.
        place: location in the file, in the format's own notation.
        size: size in bytes, -1 if unknown.
    """

    name: str
    place: str
    size: int = -1


class Shard(Protocol):
    """An open file; used by one thread at a time."""

    def read(self, place: str) -> bytes | None:
        """Return the bytes of one input; None if it has none.

        Args:
            place: location as :meth:`SourceFormat.index` returned it, without the prefix.

        Raises:
            RejectError: the input is damaged or exceeds a limit.
            OSError: the file cannot be read.
        """

    def close(self) -> None:
        """Close the file."""


class SourceFormat(ABC):
    """A format of files that contain several inputs or name them.

    Attributes:
        name: name of the format for ``--input-format``.
        extensions: lower-case file extensions, without the first dot.
        compressed: extensions of compressed files of the format; these are rejected, because their
            inputs cannot be read individually.
        names_inputs: whether such files may be lists, which ``--input-format list`` also reads.
        only_as_input: whether a file is recognised only if ``INPUT`` names it, and not in a folder
            or a list.
        prefix: prefix of the locations of its inputs; empty for the name.
        is_contiguous: whether an input's location is the offset of its unmodified bytes, which are
            then read without a child process.
        readers: modules that read such files; the child process imports them before its memory
            limit takes effect.
        position: sort position among the formats of this project.
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
        """Return whether a file has this format, given its first :data:`HEAD_BYTES`."""
        return False

    @abstractmethod
    def index(self, file: RangedFile, asked: Index) -> Iterator[Piece]:
        """Yield the contents of a file, piece by piece; see :meth:`members`.

        Args:
            file: open file; the caller closes it.
            asked: the request.

        Raises:
            RejectError: the file is damaged or exceeds a limit; raised after the last valid piece.
            SpecError: the file does not match the options, or options are missing.
            OSError: the file cannot be read.
        """

    def open(self, _file: RangedFile) -> Shard:
        """Open a file to read its inputs; closing the shard closes the file.

        Raises:
            RejectError, OSError: the file cannot be read.
        """
        raise NotImplementedError(f"{self.name} reads no inputs in a child process")

    def part_of(self, _place: str) -> tuple[int, int]:
        """Return the part of the file that contains an input, and the input's index in it.

        If reading an input crashes, later inputs in the same part are not tried.
        """
        return 0, 0

    def members(self, asked: Index, found: Iterable[Member]) -> Iterator[Members]:
        """Yield the inputs of a file in batches.

        Args:
            asked: the request passed to :meth:`index`.
            found: the inputs; an input with the name of an earlier one is rejected.
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
            # A name cannot contain a zero byte, so no other member can have this identity.
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
"""Registry of all formats, by name."""


def prefix_of(of: SourceFormat) -> str:
    """Return the prefix of the locations of a format's inputs."""
    return of.prefix or of.name


def format_named(name: bytes) -> tuple[SourceFormat, bool] | None:
    """Return a file's format by its name, with whether it is compressed; None for a single input.

    Raises:
        SpecError: a package that provides a format cannot be used.
    """
    known = _by_extension()
    *_, before, last = [b"", b"", *name[-_LONGEST_EXTENSION:].lower().split(b".")]
    return known.get(before + b"." + last) or known.get(last)


def format_beginning(head: bytes) -> SourceFormat | None:
    """Return the format of a file by its first :data:`HEAD_BYTES`; None if no format matches."""
    return next((each for each in FORMATS.values() if each.begins(head)), None)


def format_of(image: SourceImage) -> SourceFormat | None:
    """Return the format of the file that contains an input; None if the input is a whole file.

    Raises:
        FatalError: the format that the input was planned with is not installed.
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
    # Formats of this project come first, so other packages cannot take over their extensions.
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
