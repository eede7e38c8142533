"""Decoding and alignment in a child process, so that no image can end its worker.

Image libraries are native code, which a crafted or damaged file can crash, hang or make allocate
all memory. The child takes a second to start, in parallel with the other workers, and limits the
loss to one image instead of a unit.

Files are sent to the child in groups through a socket; pixels return through shared memory, because
a socket would copy them twice and wake both processes often. The shared memory also has the index
of the file in work, so that the file which ended the child is known.
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
from restyle.core.stage_clock import account
from restyle.pipeline.decoding.crops import TIME_LIMIT, CropSettings, DecodedCrop, File, read_crops
from restyle.pipeline.isolation.process import GRACE, STARTS, ChildProcess, died

__all__ = [
    "GROUP",
    "KEPT",
    "TIME_LIMIT",
    "Answer",
    "CropSettings",
    "DecodedCrop",
    "File",
    "IsolatedCropper",
    "Outcome",
    "SharedArea",
    "read_crops",
]

GROUP = 16
"""Maximum number of files that are sent at once."""

KEPT = 16 * 2**20
"""Size in bytes up to which the child reuses freed blocks for the next file."""

_CHILD = "restyle.pipeline.decoding.child"

# One core for each child, also in torch, which only the convolutional detector imports.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}

Outcome = list[DecodedCrop] | RejectError
"""The crops of a file, or the reason why it has none."""


@dataclass(frozen=True)
class Answer:
    """A child's answer for a group of files.

    Attributes:
        outcomes: number of crops of each file, or the reason why it has none.
        quads: [crops, 4, 2] float64.
        extra: crops [h, w, 3] uint8 that did not fit into the shared area.
        notes: of each crop, see :class:`~restyle.pipeline.decoding.crops.DecodedCrop`.
        detectors: of each crop.
        seconds: of the stages of alignment, see :mod:`restyle.core.stage_clock`.
    """

    outcomes: list[int | RejectError]
    quads: npt.NDArray[np.float64]
    extra: list[npt.NDArray[np.uint8]]
    notes: list[str] = field(default_factory=list)
    detectors: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class SharedArea:
    """Memory shared with the child: the index of the file in work, and crops.

    Args:
        file: descriptor of a memory file, whose size is set here.
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
        """Index of the file in work in its group."""
        return int(self._current[0])

    @current.setter
    def current(self, index: int) -> None:
        self._current[0] = index

    def take(self, answer: Answer) -> list[Outcome]:
        """Copy the crops of an answer, before the next group overwrites them."""
        # One copy for all crops, because each allocation of this size costs a system call.
        stored = self.crops[: len(answer.quads) - len(answer.extra)].copy()
        pixels = [*stored, *answer.extra]
        crops = list(map(DecodedCrop, pixels, answer.quads, answer.notes, answer.detectors))
        outcomes: list[Outcome] = []
        start = 0
        for outcome in answer.outcomes:
            if isinstance(outcome, RejectError):
                outcomes.append(outcome)
            else:
                outcomes.append(crops[start : start + outcome])
                start += outcome
        return outcomes


class IsolatedCropper:
    """Runs :func:`read_crops` in a child process, which is replaced when it dies or hangs.

    Not thread-safe.
    """

    def __init__(self, settings: CropSettings) -> None:
        self._settings = settings
        self._child: _Child | None = None

    def start(self) -> None:
        """Start the child in advance."""
        self._child = self._child or _Child(self._settings)

    def __call__(self, files: Sequence[File]) -> list[Outcome]:
        """Apply :func:`read_crops` to each file.

        A file that ends the child is rejected as ``timed_out``, or as ``crashed`` if it ends a
        second child too, since the first may have been killed from outside. Other files of the
        group are processed normally.

        Raises:
            FatalError: alignment is impossible for any file.
        """
        outcomes: list[Outcome] = []
        while len(outcomes) < len(files):
            group = files[len(outcomes) :][:GROUP]
            try:
                outcomes += self._ask(group)
            except _Died as death:
                # The results of earlier files in the group were lost with the child.
                outcomes += self(group[: death.index])
                outcomes.append(self._again(group[death.index], death.error))
        return outcomes

    def _again(self, file: File, error: RejectError) -> Outcome:
        if error.reason is not RejectReason.CRASHED:
            return error
        try:
            return self._ask([file])[0]
        except _Died as death:
            return death.error

    def _ask(self, group: Sequence[File]) -> list[Outcome]:
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
                # A child killed before it was ready was killed from outside: start another one.
                if code != -signal.SIGKILL or start == STARTS:
                    raise child.process.not_started(code, "decodes and aligns") from error
        raise AssertionError("the last start returns or raises")

    def close(self) -> None:
        """Stop the child."""
        if self._child is not None:
            self._child.process.stop()
            self._child = None


class _Died(Exception):  # noqa: N818 (an event)
    """The child ended while it processed a file.

    Attributes:
        index: of the file in its group.
        error: reject of the file.
    """

    def __init__(self, index: int, error: RejectError) -> None:
        super().__init__(str(error))
        self.index = index
        self.error = error


class _Child:
    def __init__(self, settings: CropSettings) -> None:
        memory = os.memfd_create("restyle-crops")
        self._area = SharedArea(memory, settings.size)
        self.process = ChildProcess(_CHILD, settings, [memory], environment=_ONE_THREAD)
        os.close(memory)
        self._patience = settings.time_limit + GRACE

    @property
    def current(self) -> int:
        """Index of the file in work in its group."""
        return self._area.current

    def ask(self, group: Sequence[File]) -> list[Outcome]:
        """Process a group and return the outcome of each file.

        Raises:
            FatalError: reported by the child.
            EOFError, OSError: the child has died.
        """
        self.process.wait_ready(self._patience)
        self._area.current = 0
        # One message for all files, because each message wakes the child.
        self.process.send(group)
        answer: Answer = self.process.receive(self._patience, lambda: self.current)
        account(answer.seconds)
        return self._area.take(answer)
