"""Landmarks in JSON: FFHQ's own file, points by photograph, and lists of records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from restyle.core.errors import SpecError
from restyle.pipeline.sources.landmarks.columns import KEYS, LISTS
from restyle.pipeline.sources.landmarks.json_members import Member, lines, members
from restyle.pipeline.sources.landmarks.marked_faces import NO_POINTS, MarkedFaces, marked

_AT_ONCE = 1024

# Lists within lists: of several faces, of a face, of a point.
_DEEPEST = 3

# The two pictures of a face in ffhq-dataset-v2.json that have landmarks, each in its own pixels.
_FFHQ = ("in_the_wild", "image")
_FFHQ_PATH, _FFHQ_POINTS = "file_path", "face_landmarks"


@dataclass(frozen=True, slots=True)
class _Face:
    """A face as the file has it.

    Attributes:
        key: of its photograph.
        points: its points, of any kind.
        number: of its entry in the file.
        is_named: whether the key is a name of the JSON object.
    """

    key: str | None
    points: Any
    number: int
    is_named: bool = False


def json_faces(text: TextIO, *, has_lines: bool) -> Iterator[MarkedFaces]:
    """Yield the faces of a JSON file.

    An object has photographs as names, and as values the points of a face, a list of such, or
    FFHQ's description of a face; a list has records with a key and points, named as columns of a
    table are.

    Args:
        text: the file.
        has_lines: whether each line is a record.

    Raises:
        SpecError: the file is no JSON, or of another layout.
    """
    found = enumerate(lines(text) if has_lines else members(text), 1)
    faces = (face for number, member in found for face in _faces(member, number))
    while batch := list(islice(faces, _AT_ONCE)):
        points = [_points(face.points) for face in batch]
        counts = [NO_POINTS if each is None else len(each) for each in points]
        yield marked(
            [face.key for face in batch],
            np.concatenate([np.zeros((0, 2)), *(each for each in points if each is not None)]),
            np.array(counts, np.int64),
            np.array([face.number for face in batch], np.int64),
            unit="entry",
            one_each=any(face.is_named for face in batch),
        )


def _faces(member: Member, number: int) -> Iterator[_Face]:
    name, value = member
    pictures = [value.get(each) for each in _FFHQ] if isinstance(value, dict) else []
    described = [each for each in pictures if isinstance(each, dict) and _FFHQ_POINTS in each]
    if described:
        for picture in described:
            yield _Face(_text(picture.get(_FFHQ_PATH), number), picture[_FFHQ_POINTS], number)
    elif name is None:
        yield _record(value, number)
    elif not isinstance(value, list):
        raise SpecError(
            f"entry {number} ({name[:80]!r}) is no list of points, and not FFHQ's description of "
            f"a face ({_FFHQ[0]} and {_FFHQ[1]}, each with {_FFHQ_PATH} and {_FFHQ_POINTS})"
        )
    else:
        several = value if _depth(value) == _DEEPEST else [value] if value else []
        for points in several:
            yield _Face(name, points, number, is_named=True)


def _record(value: Any, number: int) -> _Face:
    if not isinstance(value, dict):
        raise SpecError(f"entry {number} is no object with a photograph and its landmarks")
    key = next((each for each in KEYS if each in value), None)
    points = next((each for each in LISTS if each in value), None)
    if key is None or points is None:
        wanted = ", ".join(KEYS if key is None else LISTS)
        raise SpecError(f"entry {number} has none of {wanted}")
    return _Face(_text(value[key], number), value[points], number)


def _text(value: Any, number: int) -> str | None:
    if value is not None and not isinstance(value, str):
        raise SpecError(f"entry {number} names its photograph by {value!r:.40}, not by a text")
    return value


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    return depth


def _points(value: Any) -> npt.NDArray[np.float64] | None:
    """Return the points of a face, [P, 2]; None if it is no list of points."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if array.ndim == 1 and len(array) % 2 == 0:
        return array.reshape(-1, 2)
    return array if array.ndim == 2 and array.shape[1] == 2 else None
