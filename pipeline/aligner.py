"""The alignment stage: the files of a unit become crops, or rejects that say why not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from pipeline.isolation import CropSettings, IsolatedCutter
from pipeline.manifest import Unit
from pipeline.sources import SourceImage, SourceReader
from restyle_core.errors import RejectError, RejectReason

MAX_FILE_BYTES = 512 * 2**20
"""Larger files are rejected unread: no photograph is that large."""


@dataclass(frozen=True, eq=False)
class Crop:
    """One row to invert.

    Attributes:
        image_id: of the input.
        face: number of the face in its photograph, from 0, the largest first.
        source: the input as the user knows it.
        pixels: [h, w, 3] uint8 RGB.
        quad: [4, 2] float64 corners in pixels of the upright photograph.
    """

    image_id: str
    face: int
    source: str
    pixels: npt.NDArray[np.uint8]
    quad: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reject:
    """One input that gave no row: the columns of ``rejects/``."""

    image_id: str
    source: str
    stage: str
    reason: RejectReason
    message: str


@dataclass(frozen=True, eq=False)
class AlignedUnit:
    """A unit, every input of which is in exactly one of the two lists.

    Attributes:
        unit: the unit's name.
        images: number of inputs.
        crops: in the order of the inputs.
        rejects: in the order of the inputs.
        seconds: wall time of the stage.
    """

    unit: str
    images: int
    crops: list[Crop]
    rejects: list[Reject]
    seconds: float

    def __post_init__(self) -> None:
        accounted = len({crop.image_id for crop in self.crops}) + len(self.rejects)
        if accounted != self.images:
            raise ValueError(f"unit {self.unit}: {accounted} of {self.images} inputs accounted for")


class Aligner:
    """Reads, decodes and aligns the inputs of a unit, several at a time.

    Args:
        source: ``INPUT``, for the connection to its store.
        settings: how an image becomes encoder input.
        processes: images in work at the same time, each in a process of its own.
    """

    def __init__(self, source: str, settings: CropSettings, processes: int) -> None:
        self._reader = SourceReader(source)
        self._cutters: SimpleQueue[IsolatedCutter] = SimpleQueue()
        for _ in range(processes):
            cutter = IsolatedCutter(settings)
            cutter.start()
            self._cutters.put(cutter)
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="align")

    def __call__(self, unit: Unit) -> AlignedUnit:
        """Align one unit.

        Raises:
            FatalError: alignment or reading cannot work at all.
            TransientError: the store failed; the unit may work later.
        """
        started = time.perf_counter()
        crops: list[Crop] = []
        rejects: list[Reject] = []
        for outcome in self._threads.map(self._align, unit.images):
            if isinstance(outcome, Reject):
                rejects.append(outcome)
            else:
                crops += outcome
        seconds = time.perf_counter() - started
        return AlignedUnit(unit.name, len(unit.images), crops, rejects, seconds)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown()
        while not self._cutters.empty():
            self._cutters.get().close()

    def _align(self, image: SourceImage) -> list[Crop] | Reject:
        if image.fault:
            reason, _, message = image.fault.partition("|")
            return Reject(image.image_id, image.source, "plan", RejectReason(reason), message)
        stage = "read"
        try:
            data = self._read(image)
            stage = "align"
            cutter = self._cutters.get()
            try:
                cut_outs = cutter(data)
            finally:
                self._cutters.put(cutter)
        except RejectError as error:
            return Reject(image.image_id, image.source, stage, error.reason, str(error))
        return [
            Crop(image.image_id, face, image.source, cut.pixels, cut.quad)
            for face, cut in enumerate(cut_outs)
        ]

    def _read(self, image: SourceImage) -> bytes:
        if image.size > MAX_FILE_BYTES:
            raise RejectError(
                RejectReason.TOO_LARGE,
                f"{image.size:,} bytes are more than the limit of {MAX_FILE_BYTES:,}",
            )
        try:
            return self._reader.read(image)
        except OSError as error:
            reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
            raise RejectError(
                RejectReason.UNREADABLE, f"the file cannot be read: {reason}"
            ) from error
