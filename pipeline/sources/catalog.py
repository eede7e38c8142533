"""Everything that an input names, as a stream of images: files, members of shards, list entries."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from restyle.core.errors import RejectError, RejectReason, RestyleError, SpecError
from restyle.pipeline.sources.formats.shard_process import ShardProcess
from restyle.pipeline.sources.formats.source_format import (
    FORMATS,
    HEAD_BYTES,
    Entries,
    Index,
    Members,
    NoColumn,
    Piece,
    Rows,
    Skipped,
    SourceFormat,
    format_beginning,
    format_named,
    prefix_of,
)
from restyle.pipeline.sources.formats.tar_shard import damaged_container
from restyle.pipeline.sources.input_errors import input_errors
from restyle.pipeline.sources.list_entries import EntryReader
from restyle.pipeline.sources.local_files import FILE, list_local
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.ranged_file import RangedFile, Stores, open_ranged
from restyle.pipeline.sources.remote_files import full_uri, list_remote
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.filesystem import absolute_path, local_path, shown_uri, storage_errors

BATCH = 4096
"""Most files of their own in a batch."""

MOST_CONTAINED = 1 << 21
"""Most inputs in one shard, all of which planning holds at a time, in about 1.5 GB."""

_NAMED = 5

_Kind = tuple[SourceFormat, bool]


def iter_images(
    source: str,
    out: str,
    options: InputOptions,
    known_containers: Callable[[bytes, str], bool] = lambda _uri, _version: False,
    noted: Callable[[str], None] = lambda _line: None,
) -> Iterator[list[SourceImage]]:
    """Everything that an input names, in batches; memory does not grow with the input.

    A batch holds either what is in one container (a tar or Parquet file), all of it, or up to
    :data:`BATCH` files of their own. The same input may come twice, as when two patterns meet.

    Args:
        source: ``INPUT``: a file, folder, pattern, shard or list; a path or any fsspec URI.
        out: the output's path or URI; what belongs to it is no input.
        options: how ``source`` is to be read.
        known_containers: is asked once for each container, with its URI and version, whether its
            contents are known; then it is not opened.
        noted: is told, at the end, what was passed over, in one line for each kind.

    Raises:
        SpecError: there is nothing of this name, or nothing in it; ``source`` itself is a shard
            without the column, or a list that is none; or all that it holds are such.
        FatalError: something cannot be listed at all.
        TransientError: a store did not answer properly, however often it was asked.
    """
    catalog = _Catalog(source, options, known_containers)
    with contextlib.closing(catalog), _input_errors(source):
        path = local_path(source)
        files = list_remote(source, out) if path is None else list_local(path, out)
        yield from catalog.batches(_with_own(files, source))
    if catalog.misfit is not None and not catalog.has_usable:
        raise catalog.misfit
    if not catalog.found:
        what = "no images" if catalog.files else "no files to invert"
        raise SpecError(f"{shown_uri(source)} holds {what}; correct INPUT")
    for line in catalog.notes():
        noted(line)


@contextlib.contextmanager
def _input_errors(source: str) -> Iterator[None]:
    try:
        with storage_errors("cannot list", shown_uri(source)):
            yield
    except FileNotFoundError as error:
        raise SpecError(f"{shown_uri(source)} does not exist; correct INPUT") from error


def _with_own(files: Iterator[SourceImage], source: str) -> Iterator[tuple[SourceImage, bool]]:
    """Files, and whether ``INPUT`` names just this one."""
    path = local_path(source)
    if path is None:
        own = full_uri(source).encode("utf-8", "surrogateescape")
    else:
        own = FILE + os.fsencode(absolute_path(path))
    for file in files:
        yield file, file.uri == own


class _Catalog:
    """Opens what is found and counts it.

    Attributes:
        files: files that were found.
        found: inputs, and containers that are known.
        has_usable: some of these can be inputs as far as is known.
        misfit: what is wrong with the first file that other options might have made an input.
    """

    def __init__(
        self, source: str, options: InputOptions, known: Callable[[bytes, str], bool]
    ) -> None:
        self.files = 0
        self.found = 0
        self.has_usable = False
        self.misfit: SpecError | None = None
        self._options = options
        self._known = known
        self._stores = Stores(UrlPolicy(options.allow_private_urls, source))
        self._shards = ShardProcess()
        self._shards_in_lists = ShardProcess()
        self._skipped: Counter[str] = Counter()
        self._with_skipped: list[str] = []
        self._empty_entries = 0

    def batches(self, files: Iterator[tuple[SourceImage, bool]]) -> Iterator[list[SourceImage]]:
        """The contents of files, loose ones gathered."""
        loose: list[SourceImage] = []
        for file, is_input in files:
            self.files += 1
            kind = self._kind(file, is_input)
            for piece in [file] if kind is None else self._opened(file, kind, is_input):
                if isinstance(piece, SourceImage):
                    loose.append(piece)
                if loose and (isinstance(piece, list) or len(loose) == BATCH):
                    yield self._counted(loose)
                    loose = []
                if isinstance(piece, list) and piece:
                    yield self._counted(piece)
        if loose:
            yield self._counted(loose)

    def close(self) -> None:
        """End the processes that read shards."""
        self._shards.end()
        self._shards_in_lists.end()

    def notes(self) -> Iterator[str]:
        """What was passed over, one line for each kind."""
        if self._skipped:
            count, archives = self._skipped.total(), self._with_skipped
            kinds = [f"{kind} {number:,}" for kind, number in self._skipped.most_common(_NAMED)]
            more = ", ..." if len(self._skipped) > _NAMED else ""
            where = archives[0] if len(archives) == 1 else f"{len(archives):,} archives"
            what = "member is no image" if count == 1 else "members are no images"
            yield f"passed over in {where}: {count:,} {what} by name ({', '.join(kinds)}{more})"
        if self._empty_entries:
            what = "entry" if self._empty_entries == 1 else "entries"
            yield f"passed over: {self._empty_entries:,} empty {what} of lists"

    def _counted(self, batch: list[SourceImage]) -> list[SourceImage]:
        self.found += len(batch)
        self.has_usable = self.has_usable or not all(image.fault for image in batch)
        return batch

    def _kind(self, file: SourceImage, is_input: bool) -> _Kind | None:
        """The format of a file, and whether it is compressed; None for a single input."""
        if self._options.format == "files":
            return None
        named = format_named(file.uri)
        if self._options.format == "auto":
            if named is None and is_input:
                return self._kind_by_head(file)
            return None if named and named[0].only_as_input and not is_input else named
        wanted = FORMATS[self._options.format]
        may_list = wanted.only_as_input and named is not None and named[0].names_inputs
        return named if may_list else (wanted, False)

    def _kind_by_head(self, file: SourceImage) -> _Kind | None:
        """The format of what ``INPUT`` names, where its name does not tell."""
        try:
            with open_ranged(file, self._stores) as opened:
                kind = format_beginning(opened.read_at(0, HEAD_BYTES))
        except (OSError, RestyleError):
            # Whoever reads it says what is wrong.
            return None
        return None if kind is None else (kind, False)

    def _opened(
        self, file: SourceImage, kind: _Kind, is_input: bool, *, in_list: bool = False
    ) -> Iterator[SourceImage | list[SourceImage]]:
        """What is in a file: a list for a container, single inputs for a list of URIs."""
        if file.fault:
            yield file
        elif kind[1]:
            what = "a compressed archive, whose members cannot be read singly; store it as "
            what += f".{kind[0].extensions[0]}"
            yield _faulty(file, RejectReason.UNSUPPORTED_ARCHIVE, what)
        elif not self._is_known(file.uri, file.version):
            try:
                with input_errors(file, is_own=not in_list):
                    yield from self._contents(file, kind[0], is_input, in_list)
            except OSError as error:
                yield _unreadable(file, error, is_input)
            except RejectError as error:
                # Not as a container: a list that is mended or copied anew must be read again.
                yield _faulty(file, error.reason, str(error))
            except SpecError as error:
                # One file among many does not stop the others.
                if is_input:
                    raise
                self.misfit = self.misfit or error
                message = str(error).removeprefix(f"{file.source}: ")
                yield _faulty(file, RejectReason.NOT_AN_IMAGE, message)

    def _contents(
        self, file: SourceImage, kind: SourceFormat, is_input: bool, in_list: bool
    ) -> Iterator[SourceImage | list[SourceImage]]:
        with open_ranged(file, self._stores) as opened:
            # A list says nothing of the version of what it names.
            if file.version or not self._is_known(file.uri, opened.version):
                yield from self._read(file, opened, kind, is_input, in_list)

    def _read(
        self,
        file: SourceImage,
        opened: RangedFile,
        kind: SourceFormat,
        is_input: bool,
        in_list: bool,
    ) -> Iterator[SourceImage | list[SourceImage]]:
        # While a list is read, the shards that it names are.
        shards = self._shards_in_lists if in_list else self._shards
        pieces = shards.index(opened, Index(kind.name, file, self._options, in_list))
        with contextlib.closing(pieces):
            first = next(pieces, None)
            if isinstance(first, Members | Skipped):
                yield self._members(file, opened, chain([first], pieces), prefix_of(kind))
                return
            if isinstance(first, Entries):
                if in_list:
                    raise RejectError(RejectReason.NOT_AN_IMAGE, "a list in a list is not read")
                more = (piece.values for piece in pieces if isinstance(piece, Entries))
                yield from self._entries(file, chain([first.values], more))
                return
            # There is no other piece; the process that answers is heard out.
            for _ in pieces:
                pass
            if isinstance(first, Rows):
                yield _rows(file, opened.version, first)
            elif isinstance(first, NoColumn):
                yield self._without_column(file, first.columns, is_input)

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
                elif isinstance(piece, Skipped) and piece.members:
                    self._skipped += piece.members
                    # Only one is ever named.
                    self._with_skipped.append("" if self._with_skipped else file.source)
        except RejectError as error:
            if not members or error.reason is RejectReason.TOO_LARGE:
                raise
            members.append(damaged_container(file, opened, error, prefix))
        return members

    def _without_column(self, file: SourceImage, columns: str, is_input: bool) -> SourceImage:
        if not is_input and self._options.format == "auto":
            what = f"no column holds images; its columns are {columns}"
            return _faulty(file, RejectReason.NOT_AN_IMAGE, what)
        wanted = {"list": "URIs", "parquet": "images"}.get(self._options.format, "images or URIs")
        raise SpecError(f"{file.source}: no column holds {wanted}; its columns are {columns}")

    def _entries(
        self, listing: SourceImage, batches: Iterator[Sequence[str | None]]
    ) -> Iterator[SourceImage | list[SourceImage]]:
        """The inputs that a list names; shards among them are opened, further lists are not."""
        read = EntryReader(listing.uri.rpartition(b"/")[0])
        is_auto = self._options.format in ("auto", "list")
        for batch in batches:
            for entry in batch:
                image = None if entry is None else read(entry)
                if image is None:
                    self._empty_entries += 1
                    continue
                if image.fault:
                    if read.needs and self.misfit is None:
                        self.misfit = SpecError(f"the list names {read.needs}")
                    yield image
                    continue
                kind = format_named(image.uri) if is_auto else None
                if kind is None or kind[1] or kind[0].only_as_input:
                    yield image
                else:
                    yield from self._opened(image, kind, is_input=False, in_list=True)

    def _is_known(self, uri: bytes, version: str) -> bool:
        if version and self._known(uri, version):
            self.found += 1
            self.has_usable = True
            return True
        return False


def _unreadable(file: SourceImage, error: OSError, is_input: bool) -> SourceImage:
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    if is_input:
        raise SpecError(f"{file.source} cannot be read: {reason}; correct INPUT") from error
    return _faulty(file, RejectReason.UNREADABLE, f"the file cannot be read: {reason}")


def _rows(shard: SourceImage, version: str, rows: Rows) -> list[SourceImage]:
    """One input for every row of a Parquet file."""
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
