"""Detection of faces: boxes of the kind that the 68-point predictor expects."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
``auto`` is ``hog``, whose faces of low score ``cnn`` confirms, and ``cnn`` where none is left."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the upright photograph."""

SURE = 0.8
"""Score of the frontal detector from which ``auto`` believes it alone: what was no face had up to
0.36 in 411 photographs (recipes/detection/scores.py)."""


@dataclass(frozen=True)
class Detection:
    """One detected face.

    Attributes:
        box: where it is.
        score: the detector's confidence, without a fixed scale.
        detector: name of the detector that found it: ``hog``, ``exact`` or ``cnn``; ``hog+cnn`` if
            ``hog`` found and ``cnn`` confirmed it.
        note: warning about other faces of the photograph; usually empty.
    """

    box: Box
    score: float
    detector: str
    note: str = ""

    @property
    def area(self) -> int:
        """Area of the box in pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


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
    found = candidates(image, faces, detector)
    return found[:1] if faces == "largest" else found


@stage("detect")
def candidates(image: Image.Image, faces: FacePolicy, detector: Detector) -> list[Detection]:
    """The faces of :func:`detect`, with those that were found beside the largest one."""
    if detector not in get_args(Detector):
        raise SpecError(
            f"there is no detector {detector!r}; choose among {', '.join(get_args(Detector))}"
        )
    if detector == "cnn":
        return _convolutional(image, faces)
    name: Detector = "exact" if detector == "exact" else "hog"
    found = _largest_first(_frontal(image, faces, name))
    if detector != "auto":
        return found
    return _confirmed(image, faces, found) or _convolutional(image, faces)


def _confirmed(image: Image.Image, faces: FacePolicy, found: list[Detection]) -> list[Detection]:
    """The faces without those of low score that the convolutional detector does not see."""
    kept: list[Detection] = []
    for face in found:
        if face.score >= SURE:
            kept.append(face)
        elif cnn.confirms(image, face.box):
            kept.append(replace(face, detector="hog+cnn"))
        if faces == "largest":
            break
    if found and not kept and faces == "largest":
        # The search ended with the largest one; others may be smaller.
        kept = _confirmed(image, "all", _largest_first(_frontal(image, "all", "hog")))
    return kept


def _frontal(image: Image.Image, faces: FacePolicy, name: Detector) -> list[Detection]:
    if name == "exact":
        found = find_exactly(image)
    else:
        found = find_largest(image) if faces == "largest" else find_all(image)
    return [Detection(box, score, name) for box, score in found]


def _convolutional(image: Image.Image, faces: FacePolicy) -> list[Detection]:
    found = cnn.find_faces(image, small=faces == "all")
    return _largest_first([Detection(box, score, "cnn") for box, score in found])


def _largest_first(found: list[Detection]) -> list[Detection]:
    return sorted(found, key=lambda face: (-face.area, face.box))
