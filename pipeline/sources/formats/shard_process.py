"""Index and read shards and lists in a child process, whose crash does not affect this one."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import Any

from restyle.core.errors import RejectError, RejectReason
from restyle.pipeline.isolation.process import STARTS, ChildProcess, died
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
)
from restyle.pipeline.sources.formats.shard_service import ShardKey
from restyle.pipeline.sources.formats.source_format import FORMATS, Index, Piece
from restyle.pipeline.sources.ranged_file import LocalFile, RangedFile

TIME_LIMIT = 120
"""CPU seconds allowed for one row of a shard, or for a thousand members or entries."""

MEMORY_LIMIT = 2 * 2**30
"""Bytes of memory allowed for reading one shard."""

# Seconds after which a child that is suspended, or waits for a disk that does not respond, is
# killed.
_PATIENCE = 600.0

_MOST_DEATHS = 3
_WHOLE = -1
_CHILD = "restyle.pipeline.sources.formats.shard_child"
# Arrow's own allocators reserve more address space than the limit allows, and keep freed memory.
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}


class ShardProcess:
    """``ShardService`` in a child process, which is replaced when it dies.

    Not thread-safe. While the pieces of one file are consumed, no other request is possible.

    Args:
        limits: resource limits of each request; by default the module's constants.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits(TIME_LIMIT, MEMORY_LIMIT)
        self._child: ChildProcess | None = None
        self._files: dict[ShardKey, RangedFile] = {}
        self._kinds: dict[ShardKey, str] = {}
        self._opened: set[ShardKey] = set()
        self._deaths: Counter[ShardKey] = Counter()
        # By shard and part: the first input that is given up and the error; 0 for a whole shard.
        self._ends: dict[tuple[ShardKey, int], tuple[int, RejectError]] = {}

    def index(self, file: RangedFile, asked: Index) -> Generator[Piece, None, None]:
        """Yield as ``ShardService.index``.

        If the child dies, the file is read once more, because the child may have been killed from
        outside. A second death rejects the file as ``crashed``; a timeout rejects it at once as
        ``timed_out``.

        Raises:
            TransientError, FatalError: the store fails.
        """
        key = (asked.file.uri, file.version)
        request = Indexing(asked, _given(file, key))
        known = 0
        for is_last in (False, True):
            try:
                for number, piece in enumerate(self._converse(request, file, {key: file})):
                    # A second reading yields the same pieces, so skip those already yielded.
                    if number >= known:
                        known += 1
                        yield piece
            except _Died as death:
                if is_last or death.error.reason is RejectReason.TIMED_OUT:
                    raise death.error from death
            else:
                return

    def open(self, shard: ShardKey, file: RangedFile, kind: str) -> None:
        """Register a shard; the child opens it when the first input is read."""
        self._files[shard] = file
        self._kinds[shard] = kind

    def read(
        self,
        shard: ShardKey,
        place: str,
        most: int,
        sized: Callable[[int], None] = lambda _size: None,
    ) -> bytes | None:
        """Return as ``ShardService.read``.

        An input on which the child died twice is rejected together with all later inputs in its
        part of the shard; after several such deaths the whole shard is rejected.

        Args:
            shard: key of an open shard.
            place: location of the input.
            most: maximum number of bytes; a larger input is rejected.
            sized: callback that receives the number of bytes before they are received.
        """
        part, number = FORMATS[self._kinds[shard]].part_of(place)
        for end in (self._ends.get((shard, part)), self._ends.get((shard, _WHOLE))):
            if end is not None and number >= end[0]:
                raise end[1]
        request = Read(shard, place, most)
        for is_last in (False, True):
            at = (_WHOLE, 0)
            try:
                self._ensure_open(shard)
                at = (part, number)
                return self._read(request, sized)
            except _Died as death:
                if is_last or death.error.reason is RejectReason.TIMED_OUT:
                    self._give_up(shard, at, death.error)
                    raise death.error from death
        raise AssertionError("the last try returns or raises")

    def close(self, shard: ShardKey) -> None:
        """Close a shard as ``ShardService.close``, and its file."""
        if shard in self._opened and self._child is not None:
            self._opened.discard(shard)
            list(self._converse(Close(shard), None, {}))
        if shard in self._files:
            self._files.pop(shard).close()

    def end(self) -> None:
        """Stop the child and close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._child is not None:
            self._child.kill()
            self._child = None

    def __del__(self) -> None:
        self.end()

    def _ensure_open(self, shard: ShardKey) -> None:
        if shard not in self._opened:
            file = self._files[shard]
            list(
                self._converse(
                    Open(shard, _given(file, shard), self._kinds[shard]), file, self._files
                )
            )
            self._opened.add(shard)

    def _read(self, request: Read, sized: Callable[[int], None]) -> bytes | None:
        answer = self._converse(request, None, self._files)
        size = next(answer).size
        if size <= request.most:
            sized(size)
        data: list[bytes] = list(answer)
        if size > request.most:
            raise RejectError(
                RejectReason.TOO_LARGE, f"more than {request.most:,} bytes, which is the limit"
            )
        return data[0] if data else None

    def _give_up(self, shard: ShardKey, at: tuple[int, int], error: RejectError) -> None:
        """Record that no input can be read from this one on, or none of the shard."""
        self._deaths[shard] += 1
        if self._deaths[shard] >= _MOST_DEATHS:
            at = (_WHOLE, 0)
        self._ends[shard, at[0]] = (at[1], error)

    def _converse(
        self, request: object, given: RangedFile | None, files: dict[ShardKey, RangedFile]
    ) -> Iterator[Any]:
        """Send a request and yield the messages of its answer.

        Args:
            request: message to send.
            given: the file that the request refers to, if any.
            files: files of which the child may request parts.
        """
        child = self._started()
        is_answered = False
        try:
            with self._deaths_of(child):
                child.send(request)
                if isinstance(given, LocalFile):
                    child.send_descriptor(given.descriptor)
            while True:
                with self._deaths_of(child):
                    message = child.receive(_PATIENCE)
                if isinstance(message, Ask):
                    # Errors of the store end the request: the child could not continue after them.
                    data = files[message.shard].read_at(message.offset, message.length)
                    with self._deaths_of(child):
                        child.send(data)
                elif isinstance(message, Failure):
                    is_answered = True
                    raise message.error
                elif isinstance(message, Done):
                    is_answered = True
                    return
                else:
                    yield message
        finally:
            # An abandoned request leaves the child busy with an answer that nothing reads.
            if not is_answered and self._child is child:
                self._lose().kill()

    @contextlib.contextmanager
    def _deaths_of(self, child: ChildProcess) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            code = self._lose().stop()
            raise _Died(died(code, "reading it", self._limits.seconds)) from error

    def _started(self) -> ChildProcess:
        for start in range(1, STARTS + 1):
            child = self._child = self._child or ChildProcess(
                _CHILD, self._limits, environment=_ENVIRONMENT
            )
            try:
                child.wait_ready(_PATIENCE)
            except (EOFError, OSError) as error:
                code = self._lose().stop()
                # SIGKILL before the child was ready comes from outside, so a restart may succeed.
                if code != -signal.SIGKILL or start == STARTS:
                    raise child.not_started(code, "reads shards") from error
            else:
                return child
        raise AssertionError("the last start returns or raises")

    def _lose(self) -> ChildProcess:
        """Forget the current child and return it."""
        child, self._child = self._child, None
        self._opened.clear()
        if child is None:
            raise AssertionError("there is a child while something is asked of it")
        return child


class _Died(Exception):  # noqa: N818 (it says what happened to the child)
    """The child died during a request.

    Attributes:
        error: the resulting reject of the input.
    """

    def __init__(self, error: RejectError) -> None:
        super().__init__(str(error))
        self.error = error


def _given(file: RangedFile, shard: ShardKey) -> GivenFile:
    is_local = isinstance(file, LocalFile)
    return GivenFile(shard, file.size, file.version, file.read_ahead, is_local)
