"""Open files that contain inputs or name them: their members, rows and entries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import chain

from restyle.core.errors import RejectError, RejectReason, SpecError, reason_of
from restyle.pipeline.sources.contents.passed_over import PassedOver
from restyle.pipeline.sources.formats.shard_process import ShardProcess
from restyle.pipeline.sources.formats.source_format import (
    Entries,
    Index,
    Members,
    NoColumn,
    Piece,
    Rows,
    Skipped,
    SourceFormat,
    format_named,
    prefix_of,
)
from restyle.pipeline.sources.formats.tar_shard import damaged_container
from restyle.pipeline.sources.input_errors import input_errors
from restyle.pipeline.sources.lists.entries import EntryReader
from restyle.pipeline.sources.lists.opening import FIRST, Checks, UnopenableListError
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.ranged_file import RangedFile, Stores, open_ranged
from restyle.pipeline.sources.source_image import SourceImage, image_id

MOST_CONTAINED = 1 << 21
"""Maximum number of inputs in one shard; planning holds them all in memory, about 1.5 GB."""

Kind = tuple[SourceFormat, bool]
"""The format of a file, and whether the file is compressed."""

Found = Iterator[SourceImage | list[SourceImage]]
"""Single inputs, and lists with all inputs of one container."""


class NamedBy(Enum):
    """How a file was found, which determines how strictly its content is checked."""

    INPUT = "INPUT itself names it"
    FOLDER = "it lies in a folder, or matches a pattern"
    LIST = "an entry of a list names it"


class Containers:
    """Opens files that contain or name inputs.

    Args:
        options: options that control how ``INPUT`` is read.
        known: function that returns whether the contents of a container, given its URI and version,
            are already planned.
        checks: planned inputs and list checks.
        stores: file systems for remote files.
        passed: counter of skipped files; updated here.
        shards: process that reads files found directly.
        shards_in_lists: process that reads files named by lists, while the lists are being read.

    Attributes:
        known: number of containers that are already planned.
        misfit: error of the first file that other options might have made an input; None if there
            is none.
    """

    def __init__(
        self,
        options: InputOptions,
        known: Callable[[bytes, str], bool],
        checks: Checks,
        stores: Stores,
        passed: PassedOver,
        shards: ShardProcess,
        shards_in_lists: ShardProcess,
    ) -> None:
        self.known = 0
        self.misfit: SpecError | None = None
        self._options = options
        self._known = known
        self._is_planned = checks.is_planned
        self._checks = checks
        self._stores = stores
        self._passed = passed
        self._shards = shards
        self._shards_in_lists = shards_in_lists

    def opened(self, file: SourceImage, kind: Kind, named_by: NamedBy) -> Found:
        """Yield the inputs in a file; if it cannot be read, yield the file itself as a reject.

        Raises:
            SpecError: ``INPUT`` names a file that does not match the options.
            FatalError, TransientError: the store refuses or fails.
        """
        if file.fault:
            yield file
        elif kind[1]:
            what = "a compressed archive, whose members cannot be read singly; store it as "
            what += f".{kind[0].extensions[0]}"
            yield _faulty(file, RejectReason.UNSUPPORTED_ARCHIVE, what)
        elif not self._is_known(file.uri, file.version):
            try:
                with input_errors(file, is_own=named_by is not NamedBy.LIST):
                    yield from self._contents(file, kind[0], named_by)
            except OSError as error:
                yield _unreadable(file, error, named_by)
            except RejectError as error:
                # Recorded as a single file, not as a container, so that a repaired list is read
                # again.
                yield _faulty(file, error.reason, str(error))
            except UnopenableListError as error:
                if named_by is NamedBy.INPUT:
                    raise
                self.misfit = self.misfit or error
                self._passed.list(error)
            except SpecError as error:
                # One invalid file among many does not stop the others.
                if named_by is NamedBy.INPUT:
                    raise
                self.misfit = self.misfit or error
                message = str(error).removeprefix(f"{file.source}: ")
                yield _faulty(file, RejectReason.NOT_AN_IMAGE, message)

    def _contents(self, file: SourceImage, kind: SourceFormat, named_by: NamedBy) -> Found:
        with open_ranged(file, self._stores) as opened:
            # List entries carry no version, so check again with the version of the opened file.
            if file.version or not self._is_known(file.uri, opened.version):
                yield from self._read(file, opened, kind, named_by)

    def _read(
        self, file: SourceImage, opened: RangedFile, kind: SourceFormat, named_by: NamedBy
    ) -> Found:
        in_list = named_by is NamedBy.LIST
        shards = self._shards_in_lists if in_list else self._shards
        asked = Index(kind.name, file, self._options, in_list, named_by is NamedBy.INPUT)
        pieces = shards.index(opened, asked)
        with contextlib.closing(pieces):
            first = next(pieces, None)
            if isinstance(first, Members | Skipped):
                yield self._members(file, opened, chain([first], pieces), prefix_of(kind))
                return
            if isinstance(first, Entries):
                if in_list:
                    raise RejectError(RejectReason.NOT_AN_IMAGE, "a list in a list is not read")
                more = (piece for piece in pieces if isinstance(piece, Entries))
                yield from self._entries(file, chain([first], more), named_by)
                return
            # There is no other piece; read to the end of the answer to keep the process usable.
            for _ in pieces:
                pass
            if isinstance(first, Rows):
                yield _rows(file, opened.version, first)
            elif isinstance(first, NoColumn):
                self._without_column(file, first.columns, named_by)

    def _members(
        self, file: SourceImage, opened: RangedFile, pieces: Iterator[Piece], prefix: str
    ) -> list[SourceImage]:
        members: list[SourceImage] = []
        try:
            for piece in pieces:
                if isinstance(piece, Members):
                    members += [
                        SourceImage(key, source, file.uri, size, opened.version, place, fault)
                        for key, source, size, place, fault in piece.rows
                    ]
                    _check_count(len(members))
                elif isinstance(piece, Skipped):
                    self._passed.members(file.source, piece.members)
        except RejectError as error:
            if not members or error.reason is RejectReason.TOO_LARGE:
                raise
            members.append(damaged_container(file, opened, error, prefix))
        return members

    def _without_column(self, file: SourceImage, columns: str, named_by: NamedBy) -> None:
        """Skip a table that lies among inputs.

        Raises:
            SpecError: the table does not lie in a folder, or an earlier version planned it as a
                reject.
        """
        wanted = {"list": "URIs", "parquet": "images"}.get(self._options.format, "images or URIs")
        error = SpecError(f"{file.source}: no column holds {wanted}; its columns are {columns}")
        is_auto = self._options.format == "auto"
        if not (is_auto and named_by is NamedBy.FOLDER) or self._is_planned(file.image_id):
            raise error
        self.misfit = self.misfit or error
        self._passed.file(file.source)

    def _entries(self, listing: SourceImage, pieces: Iterator[Entries], named_by: NamedBy) -> Found:
        """Yield the inputs that a list names; named shards are opened, named lists are not.

        Raises:
            UnopenableListError: most of the inputs cannot be opened.
        """
        read = EntryReader(listing.uri.rpartition(b"/")[0])
        opening = self._checks.opening(listing)
        # Hold back the entries of a list found in a folder until the list check has passed.
        held: list[SourceImage] | None = [] if opening and named_by is NamedBy.FOLDER else None
        for entry, where in _numbered(pieces):
            image = None if entry is None else read(entry)
            if image is None or entry is None:
                read.empty += entry is None
                continue
            if opening and not self._is_planned(image.image_id):
                opening.see(image, entry, where)
            if held is not None and not (opening and opening.is_full) and len(held) < FIRST:
                held.append(image)
                continue
            for each in [*(held or ()), image]:
                yield from self._named(each, read)
            held = None
        if opening:
            opening.judge()
        for each in held or ():
            yield from self._named(each, read)
        self._passed.entries(read)

    def _named(self, image: SourceImage, read: EntryReader) -> Found:
        """Yield the inputs of the file that a list entry names."""
        if image.fault:
            if read.needs and self.misfit is None:
                self.misfit = SpecError(f"the list names {read.needs}")
            yield image
            return
        is_auto = self._options.format in ("auto", "list")
        kind = format_named(image.uri) if is_auto else None
        if kind is None or kind[1] or kind[0].only_as_input:
            yield image
        else:
            yield from self.opened(image, kind, NamedBy.LIST)

    def _is_known(self, uri: bytes, version: str) -> bool:
        if version and self._known(uri, version):
            self.known += 1
            return True
        return False


def _numbered(pieces: Iterator[Entries]) -> Iterator[tuple[str | None, str]]:
    """Yield each entry with its position in the list."""
    before = 0
    for piece in pieces:
        numbers = piece.numbers or range(before + 1, before + 1 + len(piece.values))
        for value, number in zip(piece.values, numbers, strict=True):
            yield value, f"{piece.unit} {number}"
        before += len(piece.values)


def _unreadable(file: SourceImage, error: OSError, named_by: NamedBy) -> SourceImage:
    reason = reason_of(error)
    if named_by is NamedBy.INPUT:
        raise SpecError(f"{file.source} cannot be read: {reason}; correct INPUT") from error
    return _faulty(file, RejectReason.UNREADABLE, f"the file cannot be read: {reason}")


def _rows(shard: SourceImage, version: str, rows: Rows) -> list[SourceImage]:
    """Return one input for every row of a Parquet file."""
    _check_count(sum(rows.groups))
    images: list[SourceImage] = []
    for group, count in enumerate(rows.groups):
        first = len(images)
        images += [
            SourceImage(
                image_id(b"%s::row%d" % (shard.uri, number)),
                f"{shard.source}::row{number}",
                shard.uri,
                -1,
                version,
                f"row:{group}:{number - first}:{rows.column}",
            )
            for number in range(first, first + count)
        ]
    return images


def _check_count(count: int) -> None:
    if count > MOST_CONTAINED:
        raise RejectError(
            RejectReason.TOO_LARGE,
            f"it holds more than {MOST_CONTAINED:,} inputs, which is the limit; divide it",
        )


def _faulty(file: SourceImage, reason: RejectReason, message: str) -> SourceImage:
    return SourceImage(
        file.image_id,
        file.source,
        file.uri,
        file.size,
        file.version,
        fault=f"{reason}|{message}",
    )
