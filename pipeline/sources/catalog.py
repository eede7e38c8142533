"""Everything that an input names, as a stream of images: files, members of shards, list entries."""

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
"""Most files of their own in a batch."""


def iter_images(
    source: str,
    out: str,
    options: InputOptions,
    known_containers: Callable[[bytes, str], bool] = lambda _uri, _version: False,
    noted: Callable[[str], None] = lambda _line: None,
    checks: Checks = NO_CHECKS,
) -> Iterator[list[SourceImage]]:
    """Everything that an input names, in batches; memory does not grow with the input.

    A batch holds either what is in one container (a tar or Parquet file), all of it, or up to
    :data:`BATCH` files of their own. The same input may come twice, as when two patterns meet.

    Args:
        source: ``INPUT``: a file, folder, pattern, shard or list; a path or any fsspec URI.
        out: the output's path or URI; what belongs to it, or to any other output, is no input.
        options: how ``source`` is to be read.
        known_containers: is asked once for each container, with its URI and version, whether its
            contents are known; then it is not opened.
        noted: is told, at the end, what was passed over, in one line for each kind.
        checks: a file that is no image and was planned before, as earlier versions did, stays an
            input; lists are looked at.

    Raises:
        SpecError: there is nothing of this name, or nothing in it; ``source`` itself is a shard
            without the column, or a list that is none or leads nowhere; or all that it holds are
            such.
        FatalError: something cannot be listed at all.
        TransientError: a store did not answer properly, however often it was asked.
    """
    catalog = _Catalog(source, options, known_containers, checks)
    with contextlib.closing(catalog), _input_errors(source):
        path = local_path(source)
        passed = catalog.passed.output
        files = list_remote(source, out, passed) if path is None else list_local(path, out, passed)
        yield from catalog.batches(_with_own(files, source))
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
    """Tells what each file that is found is, and counts inputs.

    Attributes:
        passed: counts what is passed over.
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

    def batches(self, files: Iterator[tuple[SourceImage, bool]]) -> Iterator[list[SourceImage]]:
        """The contents of files, loose ones gathered."""
        loose: list[SourceImage] = []
        for file, is_input in files:
            self._files += 1
            for piece in self._pieces(file, NamedBy.INPUT if is_input else NamedBy.FOLDER):
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
        """See that there was anything to take for an input.

        Raises:
            SpecError: there was nothing.
        """
        known, misfit = self._containers.known, self._containers.misfit
        if misfit is not None and not self._has_usable and not known:
            raise misfit
        if not self._found and not known:
            what = "no images" if self._files else "no files to invert"
            left_out = "".join(f"; {line}" for line in self.notes())
            raise SpecError(f"{source} holds {what}; correct INPUT{left_out}")

    def close(self) -> None:
        """End the processes that read shards."""
        for process in self._processes:
            process.end()

    def notes(self) -> Iterator[str]:
        """What was passed over, one line for each kind."""
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
        """Whether a file that is no container is an input, if only to be rejected."""
        is_named = named_by is NamedBy.INPUT or self._options.format == "files"
        return (is_named or bool(file.fault) or not is_bystander(file)) or self._is_planned(
            file.image_id
        )

    def _counted(self, batch: list[SourceImage]) -> list[SourceImage]:
        self._found += len(batch)
        self._has_usable = self._has_usable or not all(image.fault for image in batch)
        return batch

    def _kind(self, file: SourceImage, named_by: NamedBy) -> Kind | None:
        """The format of a file, and whether it is compressed; None for a single input."""
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
        """The format of what ``INPUT`` names, where its name does not tell."""
        try:
            with open_ranged(file, self._stores) as opened:
                kind = format_beginning(opened.read_at(0, HEAD_BYTES))
        except (OSError, RestyleError):
            # Whoever reads it says what is wrong.
            return None
        return None if kind is None else (kind, False)
