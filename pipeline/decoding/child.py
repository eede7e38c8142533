"""The child process of the sandbox: ``python -m restyle.pipeline.decoding.child FD FD``.

A separate module, so that pickled classes do not belong to the child's ``__main__``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image

from restyle.core.devices.allocator import keep_freed_memory
from restyle.core.errors import FatalError, RejectError, RejectReason
from restyle.core.faces.cnn import search_with
from restyle.core.imaging.png import encode_png
from restyle.core.imaging.shared_pixels import hold_in_one_block
from restyle.core.stage_clock import StageClock
from restyle.pipeline.decoding.crops import CropSettings, DecodedCrop, File, read_crops
from restyle.pipeline.decoding.face_search import FaceSearch
from restyle.pipeline.decoding.sandbox import KEPT, Answer, SharedArea
from restyle.pipeline.isolation.child import Parent, confine, limit_memory

_BLANK = np.full((64, 64, 3), 128, np.uint8)

# Behind inversion where both share the cores: one of its threads that waits for a core makes all of
# them wait. What alignment loses by that it gets back as soon as inversion has no crops.
_NICENESS = 5


def serve(parent: Parent, memory: int) -> None:
    """Serve a parent until it closes the connection.

    Args:
        parent: the connection.
        memory: descriptor of the shared memory.
    """
    settings: CropSettings = parent.receive()
    keep_freed_memory(KEPT)
    hold_in_one_block()
    area = SharedArea(memory, settings.size)
    os.close(memory)
    if settings.align and not settings.has_landmarks and settings.detector in ("cnn", "auto"):
        search_with(FaceSearch())
    prepared = _prepare(settings)
    limit_memory(settings.memory_limit)
    parent.send(_try_blank_image(settings) or prepared)
    os.nice(_NICENESS)
    while True:
        files: list[File] = parent.receive()
        try:
            reply: Answer | FatalError = answer(files, settings, area)
        except FatalError as error:
            reply = error
        parent.send(reply)


def _prepare(settings: CropSettings) -> Answer | FatalError:
    """Load libraries and models in advance; returns an empty answer, or the error."""
    from restyle.core.faces.alignment import find_landmarks
    from restyle.core.imaging.decoding import MIN_SIDE
    from restyle.core.imaging.formats import readable

    # Registering formats would otherwise count as time of the first image.
    readable()
    try:
        if settings.align and not settings.has_landmarks:
            find_landmarks(Image.new("RGB", (MIN_SIDE, MIN_SIDE)))
    except FatalError as error:
        return error
    return Answer([], np.empty((0, 4, 2)), [])


def _try_blank_image(settings: CropSettings) -> FatalError | None:
    """Return the error if even a blank picture cannot be read, which no input causes."""
    try:
        read_crops(encode_png(_BLANK), settings)
    except RejectError as error:
        if error.reason not in (RejectReason.NO_FACE, RejectReason.NO_LANDMARKS):
            return FatalError(
                f"no image can be read on this machine, not even a blank one: {error}"
            )
    except FatalError as error:
        return error
    return None


def answer(files: Sequence[File], settings: CropSettings, area: SharedArea) -> Answer:
    """Read the crops of a group of files.

    Args:
        files: at most :data:`~restyle.pipeline.decoding.sandbox.GROUP` files.
        settings: of the crops; a file that exceeds the time limit ends this process.
        area: receives the crops and the index of the file in work.

    Raises:
        FatalError: alignment is impossible for any file.
    """
    outcomes: list[int | RejectError] = []
    crops: list[DecodedCrop] = []
    clock = StageClock()
    for index, data in enumerate(files):
        area.current = index
        # The default action of SIGALRM ends the process even inside native code, and needs no
        # parent that is still alive.
        signal.alarm(settings.time_limit)
        try:
            with clock.running():
                found = read_crops(data, settings)
        except RejectError as error:
            outcomes.append(_without_frames(error))
            continue
        finally:
            signal.alarm(0)
        outcomes.append(len(found))
        for place, crop in zip(area.crops[len(crops) :], found, strict=False):
            place[:] = crop.pixels
        crops += found
    quads = np.stack([crop.quad for crop in crops]) if crops else np.empty((0, 4, 2))
    extra = [crop.pixels for crop in crops[len(area.crops) :]]
    notes = [crop.note for crop in crops]
    detectors = [crop.detector for crop in crops]
    return Answer(outcomes, quads, extra, notes, detectors, clock.seconds)


def _without_frames(error: RejectError) -> RejectError:
    """Release the variables of the functions that raised an error: pixels of a photograph."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):
        confine()
        serve(Parent(int(sys.argv[1])), int(sys.argv[2]))
