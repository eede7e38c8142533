"""List all inputs of ``INPUT`` as a stream of images: files, members of shards, list entries."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from restyle.core.errors import RestyleError, SpecError
from restyle.pipeline.sources.contents.bystanders import is_bystander
from restyle.pipeline.sources.contents.containers import Containers, Kind, NamedBy
from restyle.pipeline.sources.contents.passed_over import PassedOver
from restyle.pipeline.sources.formats.shard_process import ShardProcess
from restyle.pipeline.sources.formats.source_format import (
    FORMATS,
    HEAD_BYTES,
    format_beginning,
    format_named,
)
from restyle.pipeline.sources.lists.opening import Checks
from restyle.pipeline.sources.local_files import FILE, list_local
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.ranged_file import Stores, open_ranged
from restyle.pipeline.sources.remote_files import full_uri, list_remote
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.filesystem import absolute_path, local_path, shown_uri, storage_errors

NO_CHECKS = Checks()

BATCH = 4096
"""Maximum number of single files in a batch."""


def iter_images(
    source: str,
    out: str,
    options: InputOptions,
    known_containers: Callable[[bytes, str], bool] = lambda _uri, _version: False,
    noted: Callable[[str], None] = lambda _line: None,
    checks: Checks = NO_CHECKS,
) -> Iterator[list[SourceImage]]:
    """Yield all inputs in batches; memory does not grow with the number of inputs.

    A batch holds either the complete contents of one container (a tar or Parquet file), or up to
    :data:`BATCH` single files. The same input may occur twice, for example if two patterns overlap.

    Args:
        source: ``INPUT``: a file, folder, pattern, shard or list; a path or any fsspec URI.
        out: path or URI of the output; files of this or any other output are not inputs.
        options: options that control how ``source`` is read.
        known_containers: called once for each container with its URI and version; returns whether
            its contents are already planned, in which case it is not opened.
        noted: callback that receives, at the end, one line for each kind of skipped file.
        checks: planned inputs and list checks; a non-image file that an earlier version planned
            remains an input.

    Raises:
        SpecError: ``source`` does not exist or is empty; ``source`` itself is a shard without a
            usable column, or an invalid list; or it contains only such files.
        FatalError: ``source`` cannot be listed.
        TransientError: a store still fails after all retries.
    """
    catalog = _Catalog(source, options, known_containers, checks)
    with contextlib.closing(catalog), _input_errors(source):
        path = local_path(source)
        passed = catalog.passed.output
        files = list_remote(source, out, passed) if path is None else list_local(path, out, passed)
        yield from catalog.batches(_with_origin(files, source))
    catalog.check(shown_uri(source))
    for line in catalog.notes():
        noted(line)


@contextlib.contextmanager
def _input_errors(source: str) -> Iterator[None]:
    try:
        with storage_errors("cannot list", shown_uri(source)):
            yield
    except FileNotFoundError as error:
        raise SpecError(f"{shown_uri(source)} does not exist; correct INPUT") from error


def _with_origin(
    files: Iterator[SourceImage], source: str
) -> Iterator[tuple[SourceImage, NamedBy]]:
    """Yield each file with whether ``INPUT`` names exactly this file or a folder of it."""
    path = local_path(source)
    if path is None:
        own = full_uri(source).encode("utf-8", "surrogateescape")
    else:
        own = FILE + os.fsencode(absolute_path(path))
    for file in files:
        yield file, NamedBy.INPUT if file.uri == own else NamedBy.FOLDER


class _Catalog:
    """Determines the kind of each listed file, and counts inputs.

    Attributes:
        passed: counter of skipped files.
    """

    def __init__(
        self,
        source: str,
        options: InputOptions,
        known: Callable[[bytes, str], bool],
        checks: Checks,
    ) -> None:
        self._options = options
        self._is_planned = checks.is_planned
        self._stores = Stores(UrlPolicy(options.allow_private_urls, source))
        self._processes = ShardProcess(), ShardProcess()
        self.passed = PassedOver()
        self._containers = Containers(
            options, known, checks, self._stores, self.passed, *self._processes
        )
        self._files = 0
        self._found = 0
        self._has_usable = False

    def batches(self, files: Iterator[tuple[SourceImage, NamedBy]]) -> Iterator[list[SourceImage]]:
        """Yield the contents of files, with single files grouped in batches."""
        loose: list[SourceImage] = []
        for file, named_by in files:
            self._files += 1
            for piece in self._pieces(file, named_by):
                if isinstance(piece, SourceImage):
                    loose.append(piece)
                if loose and (isinstance(piece, list) or len(loose) == BATCH):
                    yield self._counted(loose)
                    loose = []
                if isinstance(piece, list) and piece:
                    yield self._counted(piece)
        if loose:
            yield self._counted(loose)

    def check(self, source: str) -> None:
        """Check that at least one input was found.

        Raises:
            SpecError: there is no input.
        """
        known, misfit = self._containers.known, self._containers.misfit
        if misfit is not None and not self._has_usable and not known:
            raise misfit
        if not self._found and not known:
            what = "no images" if self._files else "no files to invert"
            left_out = "".join(f"; {line}" for line in self.notes())
            raise SpecError(f"{source} holds {what}; correct INPUT{left_out}")

    def close(self) -> None:
        """Stop the child processes that read shards."""
        for process in self._processes:
            process.end()

    def notes(self) -> Iterator[str]:
        """Yield one line for each kind of skipped file."""
        return self.passed.notes()

    def _pieces(
        self, file: SourceImage, named_by: NamedBy
    ) -> Iterator[SourceImage | list[SourceImage]]:
        kind = self._kind(file, named_by)
        if kind is not None:
            return self._containers.opened(file, kind, named_by)
        if self._is_input(file, named_by):
            return iter([file])
        self.passed.file(file.source)
        return iter([])

    def _is_input(self, file: SourceImage, named_by: NamedBy) -> bool:
        """Return whether a file that is no container is an input, even if only to be rejected."""
        is_named = named_by is NamedBy.INPUT or self._options.format == "files"
        return (is_named or bool(file.fault) or not is_bystander(file)) or self._is_planned(
            file.image_id
        )

    def _counted(self, batch: list[SourceImage]) -> list[SourceImage]:
        self._found += len(batch)
        self._has_usable = self._has_usable or not all(image.fault for image in batch)
        return batch

    def _kind(self, file: SourceImage, named_by: NamedBy) -> Kind | None:
        """Return a file's format and whether it is compressed; None for a single input."""
        if self._options.format == "files":
            return None
        named = format_named(file.uri)
        if self._options.format == "auto":
            is_input = named_by is NamedBy.INPUT
            if named is None and is_input:
                return self._kind_by_head(file)
            return None if named and named[0].only_as_input and not is_input else named
        wanted = FORMATS[self._options.format]
        may_list = wanted.only_as_input and named is not None and named[0].names_inputs
        return named if may_list else (wanted, False)

    def _kind_by_head(self, file: SourceImage) -> Kind | None:
        """Return the format of the file that ``INPUT`` names, by its first bytes."""
        try:
            with open_ranged(file, self._stores) as opened:
                kind = format_beginning(opened.read_at(0, HEAD_BYTES))
        except (OSError, RestyleError):
            # Reading the file as an input reports this error.
            return None
        return None if kind is None else (kind, False)
