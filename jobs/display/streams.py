"""Standard output and standard error, on which a command can rely to the end, listeners or not.

What a command does is worth more than that somebody hears of it: a closed or broken stream takes
what is written and changes no exit code. A full disk under standard output is still an error.
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
    """Bytes for whoever listens; nobody, once the reader or the terminal is gone."""

    def __init__(self, descriptor: int, *, must_arrive: bool, closefd: bool) -> None:
        super().__init__(descriptor, "wb", closefd=closefd)
        self._must_arrive = must_arrive
        # One that is gone already does not call itself a terminal.
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
    """Text on a descriptor of standard error, which the stream closes; no write fails."""
    return _text(_Output(descriptor, must_arrive=False, closefd=True), "utf-8", "backslashreplace")


def settle() -> None:
    """Make the standard streams reliable, in the whole process.

    A closed descriptor is opened on the null device: the next file to be opened would have its
    number otherwise, and get what native code prints.
    """
    for descriptor in (0, 1, 2):
        _keep_open(descriptor)
    # Others, as tests have them, are their owner's.
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
