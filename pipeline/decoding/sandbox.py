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
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from restyle.core.errors import RejectError, RejectReason
from restyle.pipeline.decoding.crops import TIME_LIMIT, CropSettings, CutOut, cut_out
from restyle.pipeline.isolation.process import GRACE, STARTS, ChildProcess, died

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

_CHILD = "restyle.pipeline.decoding.child"

Outcome = list[CutOut] | RejectError
"""The crops of a file, or why it gives none."""


@dataclass(frozen=True)
class Answer:
    """What a child says of a group of files.

    Attributes:
        outcomes: by file: the number of its crops, or why there are none.
        quads: [crops, 4, 2] float64.
        extra: crops [h, w, 3] uint8 for which the shared area had no room.
        notes: by crop, see :class:`~restyle.pipeline.decoding.crops.CutOut`.
    """

    outcomes: list[int | RejectError]
    quads: npt.NDArray[np.float64]
    extra: list[npt.NDArray[np.uint8]]
    notes: list[str] = field(default_factory=list)


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
        crops = list(map(CutOut, [*stored, *answer.extra], answer.quads, answer.notes))
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
        for start in range(1, STARTS + 1):
            child = self._child = self._child or _Child(self._settings)
            try:
                return child.ask(group)
            except (EOFError, OSError) as error:
                self._child = None
                code = child.process.stop()
                if child.process.was_ready:
                    limit = self._settings.time_limit
                    reason = died(code, "decoding and alignment", limit)
                    raise _Died(child.current, reason) from error
                # Killed before it was ready, it was killed from outside: no reason to give up.
                if code != -signal.SIGKILL or start == STARTS:
                    raise child.process.not_started(code, "decodes and aligns") from error
        raise AssertionError("the last start returns or raises")

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.process.stop()
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
        memory = os.memfd_create("restyle-crops")
        self._area = SharedArea(memory, settings.size)
        self.process = ChildProcess(_CHILD, settings, [memory])
        os.close(memory)
        self._patience = settings.time_limit + GRACE

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
        self.process.wait_ready(self._patience)
        self._area.current = 0
        # In one message: each would wake the child, which would wait for the next.
        self.process.send(group)
        return self._area.take(self.process.receive(self._patience, lambda: self.current))
