"""Decoding and alignment in a child process, so that no image can take its worker down.

Image libraries are native code: a crafted or unlucky file can crash them, keep them busy for
ever, or make them take all memory. The child costs a second of start-up, beside which the other
workers start too; what it saves is the whole unit.

Files go to the child in groups through a socket; pixels come back through memory that both
share, since a socket would copy them twice and wake both sides for every few of them. The child
notes there which file it is at, so that whoever ended it is known.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from restyle.core.errors import FatalError, RejectError, RejectReason, RestyleError
from restyle.pipeline.decoding.crops import TIME_LIMIT, CropSettings, CutOut, cut_out

__all__ = [
    "GROUP",
    "TIME_LIMIT",
    "Answer",
    "CropSettings",
    "CutOut",
    "IsolatedCutter",
    "Outcome",
    "SharedArea",
    "cut_out",
]

GROUP = 16
"""Most files that go to a child at once."""

# The child ends itself at the limit; the parent steps in only when even that fails.
_GRACE = 15

# Children that may be killed one after another while they start.
_STARTS = 5

Outcome = list[CutOut] | RejectError
"""The crops of a file, or why it gives none."""


@dataclass(frozen=True)
class Answer:
    """What a child says of a group of files.

    Attributes:
        outcomes: by file: the number of its crops, or why there are none.
        quads: [crops, 4, 2] float64.
        extra: crops [h, w, 3] uint8 for which the shared area had no room.
    """

    outcomes: list[int | RejectError]
    quads: npt.NDArray[np.float64]
    extra: list[npt.NDArray[np.uint8]]


class SharedArea:
    """Memory that a cutter shares with its child: the file in work, and room for crops.

    Args:
        file: descriptor of a file in memory; its size is set here.
        shape: height and width of crops.
    """

    def __init__(self, file: int, shape: tuple[int, int]) -> None:
        header = mmap.PAGESIZE
        size = header + GROUP * shape[0] * shape[1] * 3
        os.ftruncate(file, size)
        self._map = mmap.mmap(file, size)
        self._current = np.frombuffer(self._map, np.int64, 1)
        pixels = np.frombuffer(self._map, np.uint8, offset=header)
        self.crops: npt.NDArray[np.uint8] = pixels.reshape(GROUP, *shape, 3)

    @property
    def current(self) -> int:
        """Number of the file in work within its group."""
        return int(self._current[0])

    @current.setter
    def current(self, index: int) -> None:
        self._current[0] = index

    def take(self, answer: Answer) -> list[Outcome]:
        """Copies of the crops that an answer speaks of, before the next group overwrites them."""
        # One copy for all: allocations of this size cost a system call and fresh pages each.
        stored = self.crops[: len(answer.quads) - len(answer.extra)].copy()
        crops = list(map(CutOut, [*stored, *answer.extra], answer.quads))
        outcomes: list[Outcome] = []
        start = 0
        for outcome in answer.outcomes:
            if isinstance(outcome, RejectError):
                outcomes.append(outcome)
            else:
                outcomes.append(crops[start : start + outcome])
                start += outcome
        return outcomes


class IsolatedCutter:
    """Runs :func:`cut_out` in a child process, which is replaced when it dies or hangs.

    Not thread-safe: each thread wants its own.
    """

    def __init__(self, settings: CropSettings) -> None:
        self._settings = settings
        self._child: _Child | None = None

    def start(self) -> None:
        """Start the child now rather than at the first image."""
        self._child = self._child or _Child(self._settings)

    def __call__(self, files: Sequence[bytes]) -> list[Outcome]:
        """:func:`cut_out` of each file, or why it gives nothing.

        A file on which the child died is rejected as ``timed_out``, or, when a new child dies of
        it too, as ``crashed``: the first may have been killed from outside. The others of its
        group are not touched by that.

        Raises:
            FatalError: alignment cannot work at all.
        """
        outcomes: list[Outcome] = []
        while len(outcomes) < len(files):
            group = files[len(outcomes) :][:GROUP]
            try:
                outcomes += self._ask(group)
            except _Died as death:
                # The files before it were done, but what became of them died with the child.
                outcomes += self(group[: death.index])
                outcomes.append(self._again(group[death.index], death.error))
        return outcomes

    def _again(self, file: bytes, error: RejectError) -> Outcome:
        if error.reason is not RejectReason.CRASHED:
            return error
        try:
            return self._ask([file])[0]
        except _Died as death:
            return death.error

    def _ask(self, group: Sequence[bytes]) -> list[Outcome]:
        for start in range(1, _STARTS + 1):
            child = self._child = self._child or _Child(self._settings)
            try:
                return child.ask(group)
            except (EOFError, OSError) as error:
                self._child = None
                code = child.stop()
                # Killed before it was ready, it was killed from outside: no reason to give up.
                if child.was_ready or code != -signal.SIGKILL or start == _STARTS:
                    raise self._death(child, code) from error
        raise AssertionError("the last start returns or raises")

    def _death(self, child: _Child, code: int) -> Exception:
        if not child.was_ready:
            # No image is to blame, so none must be rejected for it.
            return FatalError(
                f"the process that decodes and aligns does not start ({_ending(code)}); "
                "see its message above"
            )
        if code == -signal.SIGALRM:
            message = f"decoding and alignment took more than {self._settings.time_limit} s"
            return _Died(child.current, RejectError(RejectReason.TIMED_OUT, message))
        message = f"decoding or alignment crashed ({_ending(code)})"
        return _Died(child.current, RejectError(RejectReason.CRASHED, message))

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.stop()
            self._child = None


class _Died(Exception):  # noqa: N818 (it says what happened to the child)
    """The child ended while it was at a file.

    Attributes:
        index: of the file in its group.
        error: what this means for it.
    """

    def __init__(self, index: int, error: RejectError) -> None:
        super().__init__(str(error))
        self.index = index
        self.error = error


class _Child:
    def __init__(self, settings: CropSettings) -> None:
        ours, theirs = socket.socketpair()
        memory = os.memfd_create("restyle-crops")
        self._area = SharedArea(memory, settings.size)
        passed = (theirs.fileno(), memory)
        # Not multiprocessing: its children would import the parent's main module, here Ray's.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "restyle.pipeline.decoding.child", *map(str, passed)],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_environment(),
        )
        theirs.close()
        os.close(memory)
        self._connection = Connection(ours.detach())
        self._limit = settings.time_limit
        self.was_ready = False
        self._connection.send_bytes(pickle.dumps(settings))

    @property
    def current(self) -> int:
        """Number of the file in work within its group."""
        return self._area.current

    def ask(self, group: Sequence[bytes]) -> list[Outcome]:
        """The outcome of each file.

        Raises:
            FatalError: as the child says.
            EOFError, OSError: the child is dead.
        """
        if not self.was_ready:
            self._answer()
            self.was_ready = True
        self._area.current = 0
        # In one message: each would wake the child, which would wait for the next.
        self._connection.send_bytes(pickle.dumps(group, protocol=5))
        return self._area.take(self._answer())

    def _answer(self) -> Answer:
        at = self.current
        while not self._connection.poll(self._limit + _GRACE):
            if at == self.current:
                self._process.send_signal(signal.SIGALRM)
            at = self.current
        # What our own child wrote into our own socket is safe to unpickle.
        answer: Answer | RestyleError = pickle.loads(self._connection.recv_bytes())  # noqa: S301
        if isinstance(answer, RestyleError):
            raise answer
        return answer

    def stop(self) -> int:
        self._connection.close()
        try:
            return self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _environment() -> dict[str, str]:
    # Wherever this project was imported from, the child finds it too.
    paths: Iterable[str] = (
        str(Path(__file__).absolute().parents[3]),
        os.environ.get("PYTHONPATH", ""),
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
