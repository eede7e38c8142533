"""The child process that reads shards: ``python -m restyle.pipeline.sources.formats.shard_child``.

It receives open descriptors of local files, and requests each part of other files from its parent,
so it needs neither network access nor credentials.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator

from restyle.core.errors import RestyleError, SpecError
from restyle.pipeline.isolation.child import Parent, confine, limit_memory
from restyle.pipeline.sources.formats.shard_messages import (
    Ask,
    Close,
    Done,
    Failure,
    GivenFile,
    Indexing,
    Limits,
    Open,
    Read,
    Size,
)
from restyle.pipeline.sources.formats.shard_service import ShardService, shard_errors
from restyle.pipeline.sources.formats.source_format import FORMATS
from restyle.pipeline.sources.ranged_file import LocalFile, RangedFile


def serve(parent: Parent) -> None:
    """Answer the requests of a parent until the connection closes.

    Args:
        parent: connection to the parent.
    """
    limits: Limits = parent.receive()
    for name in FORMATS:
        # A format that cannot be used is reported when it is requested.
        with contextlib.suppress(SpecError):
            for module in FORMATS[name].readers:
                importlib.import_module(module)
    parent.send(Done())
    limit_memory(limits.memory)
    service = ShardService()
    while True:
        request = parent.receive()
        _begin(limits)
        try:
            with shard_errors("the file cannot be read"):
                for message in _answer(service, request, parent):
                    parent.send(message)
                    # Restart the timer: the limit applies to each piece, whatever their number.
                    _begin(limits)
            parent.send(Done())
        except ConnectionError:
            raise
        except (OSError, RestyleError) as error:
            parent.send(Failure(error))


def _answer(service: ShardService, request: object, parent: Parent) -> Iterator[object]:
    if isinstance(request, Indexing):
        with _file(request.file, parent) as file:
            yield from service.index(file, request.asked)
    elif isinstance(request, Open):
        service.open(request.shard, _file(request.file, parent), request.kind)
    elif isinstance(request, Read):
        data = service.read(request.shard, request.place)
        yield Size(-1 if data is None else len(data))
        if data is not None and len(data) <= request.most:
            yield data
    elif isinstance(request, Close):
        service.close(request.shard)


def _file(given: GivenFile, parent: Parent) -> RangedFile:
    if given.is_local:
        return LocalFile(parent.receive_descriptor())
    return _AskedFile(given, parent)


class _AskedFile(RangedFile):
    """A file whose parts the parent reads."""

    def __init__(self, given: GivenFile, parent: Parent) -> None:
        self.size, self.version = given.size, given.version
        self.read_ahead = given.read_ahead
        self._shard = given.shard
        self._parent = parent

    def read_at(self, offset: int, length: int) -> bytes:
        if min(length, self.size - offset) <= 0:
            return b""
        self._parent.send(Ask(self._shard, offset, length))
        data: bytes = self._parent.receive()
        return data


def _begin(limits: Limits) -> None:
    # CPU time, because waiting for a store is not the file's fault. The signal's default action
    # ends the process even inside native code.
    signal.setitimer(signal.ITIMER_PROF, limits.seconds)


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):
        confine()
        serve(Parent(int(sys.argv[1])))
