"""Standard output and standard error that tolerate closed pipes and terminals.

A closed or broken stream discards output and changes no exit code, so that a command completes its
work. A full disk under standard output is still an error.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_ERROR = 2


class _Output(io.FileIO):
    """Raw output that discards data once the reader or the terminal is gone."""

    def __init__(self, descriptor: int, *, must_arrive: bool, closefd: bool) -> None:
        super().__init__(descriptor, "wb", closefd=closefd)
        self._must_arrive = must_arrive
        # Not isatty(), which is false for a terminal that is gone.
        self._is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            is_left = error.errno == errno.EPIPE or (self._is_device and error.errno == errno.EIO)
            if self._must_arrive and not is_left:
                raise
            return memoryview(data).nbytes


def open_error_stream(descriptor: int) -> TextIO:
    """Open a text stream that owns a descriptor of standard error; writes never fail."""
    return _text(_Output(descriptor, must_arrive=False, closefd=True), "utf-8", "backslashreplace")


def settle() -> None:
    """Replace the standard streams of the process by tolerant ones.

    A closed descriptor is opened on the null device. Otherwise the next opened file would get its
    number, and receive output of native code.
    """
    for descriptor in (0, 1, 2):
        _keep_open(descriptor)
    # Streams that were replaced, as in tests, are left alone.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _settled(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _settled(sys.stderr, _ERROR)


def _keep_open(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
        os.set_inheritable(descriptor, True)


def _settled(stream: TextIO | None, descriptor: int) -> TextIO:
    is_error = descriptor == _ERROR
    encoding = stream.encoding if stream is not None else "utf-8"
    errors = stream.errors if stream is not None else None
    if stream is not None:
        stream.flush()
    raw = _Output(descriptor, must_arrive=not is_error, closefd=False)
    return _text(raw, encoding, errors or "backslashreplace", lines=is_error or raw.isatty())


def _text(raw: _Output, encoding: str, errors: str, *, lines: bool = True) -> TextIO:
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding, errors, line_buffering=lines)
