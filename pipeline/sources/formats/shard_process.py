"""Shards and lists, indexed and read in a child process that they cannot take down with them."""

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
"""Seconds of the processor that a shard may take for one row, or a thousand members or entries."""

MEMORY_LIMIT = 2 * 2**30
"""Bytes that reading one shard may take."""

# A child that is stopped from outside, or waits for a disk that never answers, is ended.
_PATIENCE = 600.0

_MOST_DEATHS = 3
_WHOLE = -1
_CHILD = "restyle.pipeline.sources.formats.shard_child"
# Arrow's own allocators reserve more addresses than the limit allows, and keep what is freed.
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}


class ShardProcess:
    """Does what ``ShardService`` does, in a child that is replaced when it dies.

    Not thread-safe. While the pieces of one file are taken, nothing else can be asked.

    Args:
        limits: of each request.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits(TIME_LIMIT, MEMORY_LIMIT)
        self._child: ChildProcess | None = None
        self._files: dict[ShardKey, RangedFile] = {}
        self._kinds: dict[ShardKey, str] = {}
        self._opened: set[ShardKey] = set()
        self._deaths: Counter[ShardKey] = Counter()
        # From which input on a part of a shard is given up, and why; from 0 on for whole shards.
        self._ends: dict[tuple[ShardKey, int], tuple[int, RejectError]] = {}

    def index(self, file: RangedFile, asked: Index) -> Generator[Piece, None, None]:
        """As ``ShardService.index``.

        A file on which the child died is read once more, because the child may have been killed
        from outside; then it is rejected as ``crashed``, or at once as ``timed_out``.

        Raises:
            TransientError, FatalError: its store failed.
        """
        key = (asked.file.uri, file.version)
        request = Indexing(asked, _given(file, key))
        known = 0
        for is_last in (False, True):
            try:
                for number, piece in enumerate(self._converse(request, file, {key: file})):
                    # Whoever reads the same file again finds the same pieces.
                    if number >= known:
                        known += 1
                        yield piece
            except _Died as death:
                if is_last or death.error.reason is RejectReason.TIMED_OUT:
                    raise death.error from death
            else:
                return

    def open(self, shard: ShardKey, file: RangedFile, kind: str) -> None:
        """As ``ShardService.open``, when an input is asked for."""
        self._files[shard] = file
        self._kinds[shard] = kind

    def read(
        self,
        shard: ShardKey,
        place: str,
        most: int,
        sized: Callable[[int], None] = lambda _size: None,
    ) -> bytes | None:
        """As ``ShardService.read``.

        An input on which the child died twice is rejected, with all that follow in its part of the
        shard; and the whole shard when that happens again and again.

        Args:
            shard: was opened.
            place: of the input.
            most: bytes; an input that has more is rejected.
            sized: is told the number of bytes before they come.
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
        """As ``ShardService.close``."""
        if shard in self._opened and self._child is not None:
            self._opened.discard(shard)
            list(self._converse(Close(shard), None, {}))
        if shard in self._files:
            self._files.pop(shard).close()

    def end(self) -> None:
        """End the child."""
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
        """Take note that nothing can be read from an input on, or nothing at all."""
        self._deaths[shard] += 1
        if self._deaths[shard] >= _MOST_DEATHS:
            at = (_WHOLE, 0)
        self._ends[shard, at[0]] = (at[1], error)

    def _converse(
        self, request: object, given: RangedFile | None, files: dict[ShardKey, RangedFile]
    ) -> Iterator[Any]:
        """The messages that answer a request.

        Args:
            request: what is asked.
            given: the file that the request tells of.
            files: from which the child may ask for parts.
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
                    # What its store raises is nothing that the child could go on after.
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
            # Else it is in the middle of something that nobody waits for any more.
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
                # Killed before it was ready, it was killed from outside: no reason to give up.
                if code != -signal.SIGKILL or start == STARTS:
                    raise child.not_started(code, "reads shards") from error
            else:
                return child
        raise AssertionError("the last start returns or raises")

    def _lose(self) -> ChildProcess:
        """Have no child any more; the one that there was."""
        child, self._child = self._child, None
        self._opened.clear()
        if child is None:
            raise AssertionError("there is a child while something is asked of it")
        return child


class _Died(Exception):  # noqa: N818 (it says what happened to the child)
    """The child ended while it was at a request.

    Attributes:
        error: what this means for the input.
    """

    def __init__(self, error: RejectError) -> None:
        super().__init__(str(error))
        self.error = error


def _given(file: RangedFile, shard: ShardKey) -> GivenFile:
    is_local = isinstance(file, LocalFile)
    return GivenFile(shard, file.size, file.version, file.read_ahead, is_local)
