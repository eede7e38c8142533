"""Scores of landmarks against faces drawn by hand, and on photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restyle.core.editing.attributes import SCORERS, measure, mouth, pose, smile
from restyle.core.faces.alignment import align_faces


def face(*, width: float = 40, corners: float = 0, gap: float = 4, nose: float = 0) -> np.ndarray:
    """68 points of an upright face whose eyes are 60 apart."""
    points = np.zeros((68, 2))
    points[0:17, 0] = np.linspace(-60, 60, 17)
    points[30] = (nose, 30)
    points[36:42] = (-30, 0)
    points[42:48] = (30, 0)
    points[48:68, 1] = 60
    points[48] = (-width / 2, 60 - corners)
    points[54] = (width / 2, 60 - corners)
    points[[61, 62, 63], 1] -= gap / 2
    points[[65, 66, 67], 1] += gap / 2
    return points


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T


def test_scores_are_ratios_of_lengths() -> None:
    assert smile(face()) == pytest.approx(40 / 60)
    assert smile(face(width=52, corners=6)) == pytest.approx((52 + 6) / 60)
    assert mouth(face(gap=9)) == pytest.approx(9 / 60)
    # The cheeks are points 1-3 and 13-15, 45 on either side in the mean.
    assert pose(face(nose=15)) == pytest.approx(15 / 45)


@pytest.mark.parametrize("name", SCORERS)
def test_size_place_and_tilt_do_not_matter(name: str) -> None:
    points = face(width=50, corners=4, nose=9)
    score = SCORERS[name]
    assert score(turned(points, 30) * 2.5 + 100) == pytest.approx(score(points))


@pytest.mark.parametrize("name", SCORERS)
def test_more_is_more(name: str) -> None:
    change = {"smile": "corners", "pose": "nose", "mouth": "gap"}[name]
    values = [SCORERS[name](face(**{change: amount})) for amount in (0, 3, 6)]
    assert values[0] < values[1] < values[2]


def test_a_mirrored_photograph_turns_the_other_way(photos: Path) -> None:
    crop = align_faces(Image.open(photos / "smile.jpg"), size=64)[0].image
    mirrored = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    nothing = Image.new("RGB", (64, 64))
    found = measure([crop, mirrored, nothing])
    assert set(found) == set(SCORERS)
    assert found["pose"][0] == pytest.approx(-found["pose"][1], abs=0.12)
    assert found["smile"][0] == pytest.approx(found["smile"][1], abs=0.12)
    assert all(values.dtype == np.float32 and np.isnan(values[2]) for values in found.values())
