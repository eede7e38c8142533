"""The alignment stage: from the files of a unit to crops and rejects."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from restyle.core.errors import RejectError, RejectReason, reason_of
from restyle.core.stage_clock import StageClock, stage
from restyle.pipeline.decoding.crops import MarkedFile
from restyle.pipeline.decoding.sandbox import GROUP, CropSettings, File, IsolatedCropper, Outcome
from restyle.pipeline.ledger.manifest import Unit
from restyle.pipeline.ledger.rejects import Reject
from restyle.pipeline.sources import MAX_FILE_BYTES, SourceReader
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.reader import Sized
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.sources.web.private_hosts import UrlPolicy

READ_AHEAD = 128 * 2**20
"""Limit for the bytes of files that wait for a process; a single larger file is also read."""

# Threads that read groups in advance, enough to hide an object store's latency. Local files need
# fewer.
_READERS = 32
_LOCAL_READERS = 4

# Of files with a size that the listing does not tell, only one larger than this is held at a time.
_LARGE = 16 * 2**20

# Maximum size of a group of files for one process, because a group is decoded sequentially.
_GROUP_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class Crop:
    """One crop to invert.

    Attributes:
        image_id: of the input.
        face: index of the face in its photograph, largest first.
        source: the input's URI or shard member.
        pixels: [h, w, 3] uint8 RGB.
        quad: [4, 2] float64 corners in pixels of the upright photograph.
        revision: of the input.
        note: warning about the input; usually empty.
        detector: name of the detector that found the face; empty for whole images.
    """

    image_id: str
    face: int
    source: str
    pixels: npt.NDArray[np.uint8]
    quad: npt.NDArray[np.float64]
    revision: int = 1
    note: str = ""
    detector: str = ""


@dataclass(frozen=True, eq=False)
class AlignedUnit:
    """Crops and rejects of a unit; every input has either crops or one reject.

    Attributes:
        unit: the unit's name.
        images: number of inputs.
        crops: in the order of the inputs.
        rejects: in the order of the inputs.
        seconds: wall time of the stage.
        parts: seconds of what it consists of, summed over its processes; see
            :data:`restyle.core.stage_clock.ALIGNMENT`.
    """

    unit: str
    images: int
    crops: list[Crop]
    rejects: list[Reject]
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about the inputs, a sentence each."""
        return tuple(f"{crop.source}: {crop.note}" for crop in self.crops if crop.note)

    def __post_init__(self) -> None:
        accounted = len({crop.image_id for crop in self.crops}) + len(self.rejects)
        if accounted != self.images:
            raise ValueError(f"unit {self.unit}: {accounted} of {self.images} inputs accounted for")


class Aligner:
    """Reads, decodes and aligns the inputs of units in parallel.

    Thread-safe, so that the next unit is read while the last images of another are aligned.

    Args:
        source: ``INPUT``, for the connection to its store.
        settings: of the crops.
        processes: number of child processes, each with one image in work.
        policy: restrictions of the inputs' addresses.
    """

    def __init__(
        self,
        source: str,
        settings: CropSettings,
        processes: int,
        policy: UrlPolicy | None = None,
    ) -> None:
        self._reader = SourceReader(source, policy)
        self._settings = settings
        self._processes = processes
        self._ahead = _Allowance(READ_AHEAD)
        self._large = threading.Lock()
        self._croppers: SimpleQueue[IsolatedCropper] = SimpleQueue()
        for _ in range(processes):
            cropper = IsolatedCropper(settings)
            cropper.start()
            self._croppers.put(cropper)
        self._threads = ThreadPoolExecutor(processes + _READERS, thread_name_prefix="align")
        self._local_threads = ThreadPoolExecutor(processes + _LOCAL_READERS, "align-local")

    def __call__(self, unit: Unit) -> AlignedUnit:
        """Align one unit.

        Raises:
            FatalError: alignment or reading is impossible for any input.
            TransientError: the store failed; the unit may be retried.
        """
        started = time.perf_counter()
        clock = StageClock()
        crops: list[Crop] = []
        rejects: list[Reject] = []
        # Face detection is slow, so groups have one image; otherwise small units are divided among
        # all processes.
        detects = self._settings.align and not self._settings.has_landmarks
        most = 1 if detects else len(unit.images) // (4 * self._processes)
        groups = _groups(unit.images, min(max(most, 1), GROUP))
        is_local = all(image.uri.startswith(FILE) for image in unit.images)
        threads = self._local_threads if is_local else self._threads
        for outcomes in threads.map(functools.partial(self._align, clock), groups):
            for outcome in outcomes:
                if isinstance(outcome, Reject):
                    rejects.append(outcome)
                else:
                    crops += outcome
        seconds = time.perf_counter() - started
        return AlignedUnit(unit.name, len(unit.images), crops, rejects, seconds, clock.seconds)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown()
        self._local_threads.shutdown()
        while not self._croppers.empty():
            self._croppers.get().close()
        self._reader.close()

    def _align(self, clock: StageClock, group: Sequence[SourceImage]) -> list[list[Crop] | Reject]:
        """The crops or the reject of each image."""
        settled: list[list[Crop] | Reject] = []
        with self._ahead.spent(sum(_bytes(image) for image in group)), clock.running():
            rest = list(group)
            while rest:
                settled += self._align_some(rest)
        return settled

    def _align_some(self, images: list[SourceImage]) -> list[list[Crop] | Reject]:
        """Process and remove the first images of a list, up to one that is larger than expected."""
        taken: list[SourceImage] = []
        read: list[bytes | Reject] = []
        is_large = False
        with contextlib.ExitStack() as stack:

            def sized(size: int) -> None:
                nonlocal is_large
                if size > max(_LARGE, taken[-1].size) and not is_large:
                    stack.enter_context(self._large)
                    is_large = True

            while images and not is_large:
                taken.append(images.pop(0))
                read.append(self._read(taken[-1], sized))
            files = [
                MarkedFile(data, image.landmarks) if self._settings.has_landmarks else data
                for image, data in zip(taken, read, strict=True)
                if isinstance(data, bytes)
            ]
            outcomes = iter(self._crop(files))
            return [
                data if isinstance(data, Reject) else _settle(image, next(outcomes))
                for image, data in zip(taken, read, strict=True)
            ]

    def _crop(self, files: Sequence[File]) -> list[Outcome]:
        if not files:
            return []
        cropper = self._croppers.get()
        try:
            return cropper(files)
        finally:
            self._croppers.put(cropper)

    @stage("read")
    def _read(self, image: SourceImage, sized: Sized) -> bytes | Reject:
        if image.fault:
            reason, _, message = image.fault.partition("|")
            return _reject(image, "plan", RejectReason(reason), message)
        if image.size > MAX_FILE_BYTES:
            message = f"{image.size:,} bytes are more than the limit of {MAX_FILE_BYTES:,}"
            return _reject(image, "read", RejectReason.TOO_LARGE, message)
        try:
            return self._reader.read(image, sized)
        except RejectError as error:
            return _reject(image, "read", error.reason, str(error))
        except OSError as error:
            reason = reason_of(error)
            message = f"the file cannot be read: {reason}"
            return _reject(image, "read", RejectReason.UNREADABLE, message)


class _Allowance:
    """A limit for bytes in use; a larger amount may be in use alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def spent(self, amount: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + amount <= self._limit)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                self._changed.notify_all()


def _groups(images: Sequence[SourceImage], most: int) -> Iterator[list[SourceImage]]:
    """Groups of at most ``most`` consecutive images and about a megabyte."""
    group: list[SourceImage] = []
    size = 0
    for image in images:
        if group and (len(group) == most or size + _bytes(image) > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(image)
        size += _bytes(image)
    if group:
        yield group


def _bytes(image: SourceImage) -> int:
    """Bytes of an image's file; an estimate if the listing does not tell."""
    if image.fault or image.size > MAX_FILE_BYTES:
        return 0
    return image.size if image.size >= 0 else _GROUP_BYTES // GROUP


def _settle(image: SourceImage, outcome: Outcome) -> list[Crop] | Reject:
    if isinstance(outcome, RejectError):
        return _reject(image, "align", outcome.reason, str(outcome))
    return [
        Crop(
            image.image_id,
            face,
            image.source,
            crop.pixels,
            crop.quad,
            image.revision,
            crop.note,
            crop.detector,
        )
        for face, crop in enumerate(outcome)
    ]


def _reject(image: SourceImage, stage: str, reason: RejectReason, message: str) -> Reject:
    return Reject(image.image_id, image.source, stage, reason, message, image.revision)
