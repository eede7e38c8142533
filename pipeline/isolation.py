"""Decoding and alignment in a child process, so that no image can take its worker down.

Image libraries are native code: a crafted or unlucky file can crash them or keep them busy for
ever. The child costs a second of start-up, beside which the other workers start too; what it
saves is the whole unit.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from restyle_core.errors import FatalError, RejectError, RejectReason, RestyleError

TIME_LIMIT = 120
"""Seconds that one image may take."""

# The child ends itself at the limit; the parent steps in only when even that fails.
_GRACE = 15


@dataclass(frozen=True)
class CropSettings:
    """How an image becomes encoder input.

    Attributes:
        align: find faces and cut them out, or take the image whole.
        faces: which faces to keep.
        size: height and width of the result in pixels; square when faces are aligned.
        framing_scale: side of the domain's crop relative to the FFHQ quad.
        framing_shift: its displacement towards the chin, in units of the quad's side.
        time_limit: seconds one image may take.
    """

    align: bool
    faces: Literal["largest", "all"]
    size: tuple[int, int]
    framing_scale: float = 1.0
    framing_shift: float = 0.0
    time_limit: int = TIME_LIMIT


@dataclass(frozen=True, eq=False)
class CutOut:
    """One encoder input.

    Attributes:
        pixels: [h, w, 3] uint8 RGB.
        quad: [4, 2] float64 corners in pixels of the upright photo.
    """

    pixels: npt.NDArray[np.uint8]
    quad: npt.NDArray[np.float64]


def cut_out(data: bytes, settings: CropSettings) -> list[CutOut]:
    """Decode one file and cut its faces out, or squash it to size.

    Args:
        data: the file.
        settings: what to make of it.

    Returns:
        At least one.

    Raises:
        RejectError: the file gives none.
    """
    # Here, because only the child has to pay for these.
    from PIL import Image

    from restyle_core.alignment import Framing, align_faces
    from restyle_core.images import decode_image

    image = decode_image(data)
    if settings.align:
        framing = Framing(settings.framing_scale, settings.framing_shift)
        found = align_faces(image, settings.size[0], settings.faces, framing)
        return [CutOut(np.asarray(face.image), face.quad) for face in found]
    height, width = settings.size
    # The published loaders resize to the encoder's size whatever the aspect.
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    # In the convention of aligned quads, whose corners lie half a pixel further out.
    right, bottom = image.width - 0.5, image.height - 0.5
    quad = np.array([(-0.5, -0.5), (-0.5, bottom), (right, bottom), (right, -0.5)])
    return [CutOut(pixels, quad)]


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

    def __call__(self, data: bytes) -> list[CutOut]:
        """As :func:`cut_out`.

        Raises:
            RejectError: also ``crashed`` and ``timed_out``, after a second try in a new child,
                because the first may have been killed from outside.
            FatalError: alignment cannot work at all.
        """
        try:
            return self._once(data)
        except RejectError as error:
            if error.reason is not RejectReason.CRASHED:
                raise
        return self._once(data)

    def _once(self, data: bytes) -> list[CutOut]:
        child = self._child = self._child or _Child(self._settings)
        try:
            answer = child.ask(data)
        except (EOFError, OSError) as error:
            raise self._death(child) from error
        if isinstance(answer, RestyleError):
            raise answer
        return answer

    def _death(self, child: _Child) -> RestyleError:
        self._child = None
        code = child.stop()
        if not child.was_ready:
            # No image is to blame, so none must be rejected for it.
            return FatalError(
                f"the process that decodes and aligns does not start ({_ending(code)}); "
                "see its message above"
            )
        if code == -signal.SIGALRM:
            return RejectError(
                RejectReason.TIMED_OUT,
                f"decoding and alignment took more than {self._settings.time_limit} s",
            )
        return RejectError(RejectReason.CRASHED, f"decoding or alignment crashed ({_ending(code)})")

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.stop()
            self._child = None


class _Child:
    def __init__(self, settings: CropSettings) -> None:
        ours, theirs = socket.socketpair()
        # Not multiprocessing: its children would import the parent's main module, here Ray's.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "pipeline.isolation_child", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_environment(),
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._limit = settings.time_limit
        self.was_ready = False
        self._connection.send_bytes(pickle.dumps(settings))

    def ask(self, data: bytes) -> list[CutOut] | RestyleError:
        if not self.was_ready:
            started = self._answer()
            if isinstance(started, RestyleError):
                return started
            self.was_ready = True
        self._connection.send_bytes(data)
        return self._answer()

    def _answer(self) -> list[CutOut] | RestyleError:
        if not self._connection.poll(self._limit + _GRACE):
            self._process.send_signal(signal.SIGALRM)
        # What our own child wrote into our own socket is safe to unpickle.
        answer: list[CutOut] | RestyleError = pickle.loads(self._connection.recv_bytes())  # noqa: S301
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
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def serve(connection: Connection) -> None:
    """Answer one parent until it closes the connection."""
    settings: CropSettings = pickle.loads(connection.recv_bytes())  # noqa: S301 (our own parent)
    connection.send_bytes(pickle.dumps(_prepare(settings)))
    while True:
        try:
            data = connection.recv_bytes()
        except EOFError:
            return
        # The default action of SIGALRM ends the process even inside native code, and needs no
        # parent that is still alive.
        signal.alarm(settings.time_limit)
        try:
            answer: list[CutOut] | RestyleError = cut_out(data, settings)
        except (RejectError, FatalError) as error:
            answer = error
        signal.alarm(0)
        connection.send_bytes(pickle.dumps(answer, protocol=5))


def _prepare(settings: CropSettings) -> list[CutOut] | FatalError:
    """Load dlib's models while the other processes start; nothing or what is wrong with them."""
    from PIL import Image

    from restyle_core.alignment import find_landmarks
    from restyle_core.images import MIN_SIDE

    try:
        if settings.align:
            find_landmarks(Image.new("RGB", (MIN_SIDE, MIN_SIDE)))
    except FatalError as error:
        return error
    return []
