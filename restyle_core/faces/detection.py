"""Detection of faces: boxes of the kind that the 68-point predictor expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from restyle.core.errors import SpecError
from restyle.core.faces import cnn
from restyle.core.faces.hog.search import find_all, find_exactly, find_largest
from restyle.core.stage_clock import stage

if TYPE_CHECKING:
    from PIL import Image

FacePolicy = Literal["largest", "all"]

Detector = Literal["hog", "exact", "cnn", "auto"]
"""``exact`` is the published recipe: dlib's frontal detector on the image at twice its size.
``hog`` searches the same levels coarse to fine and stops where the policy allows it.
``cnn`` is dlib's convolutional detector, which also finds turned, dark and partly hidden faces.
``auto`` is ``hog``, and ``cnn`` where that finds no face."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the upright photograph."""


@dataclass(frozen=True)
class Detection:
    """One detected face.

    Attributes:
        box: where it is.
        score: the detector's confidence, without a fixed scale.
        detector: name of the detector that found it: ``hog``, ``exact`` or ``cnn``.
    """

    box: Box
    score: float
    detector: str

    @property
    def area(self) -> int:
        """Area of the box in pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


@stage("detect")
def detect(
    image: Image.Image, faces: FacePolicy = "all", detector: Detector = "hog"
) -> list[Detection]:
    """Detect the faces of a photograph.

    Args:
        image: an upright RGB photograph.
        faces: the largest box alone, or all.
        detector: how faces are found.

    Returns:
        The faces, largest box first; boxes of equal size are ordered by position.

    Raises:
        SpecError: there is no such detector.
    """
    if detector not in get_args(Detector):
        raise SpecError(
            f"there is no detector {detector!r}; choose among {', '.join(get_args(Detector))}"
        )
    detections = []
    if detector != "cnn":
        name: Detector = "exact" if detector == "exact" else "hog"
        found = _search(image, faces, name)
        detections = [Detection(box, score, name) for box, score in found]
    if not detections and detector in ("cnn", "auto"):
        found = cnn.find_faces(image, small=faces == "all")
        detections = [Detection(box, score, "cnn") for box, score in found]
    largest_first = sorted(detections, key=lambda face: (-face.area, face.box))
    return largest_first[:1] if faces == "largest" else largest_first


def _search(image: Image.Image, faces: FacePolicy, detector: Detector) -> list[tuple[Box, float]]:
    if detector == "exact":
        return find_exactly(image)
    return find_largest(image) if faces == "largest" else find_all(image)
