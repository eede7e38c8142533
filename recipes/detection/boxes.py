"""Fit the map from the convolutional detector's squares to the frontal detector's boxes.

Each photograph is also mirrored, which separates the detector's own shift from that of the heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dlib
import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import ImageOps

from recipes.photographs.truth import read_truth
from restyle.core.faces.alignment import model_files
from restyle.core.faces.hog.search import find_exactly
from restyle.core.faces.mmod.detector import find_mmod_faces
from restyle.core.imaging.decoding import decode_image

FloatArray = npt.NDArray[np.float64]

_PHOTOGRAPHS = "standard/1024x1024-one"

# Boxes whose centres differ by less than this share of a side show the same face.
_NEAR = 0.5


def pairs(folder: Path) -> Iterator[tuple[npt.NDArray[np.uint8], FloatArray, FloatArray, bool]]:
    """Pixels, both detectors' boxes [4], and whether mirrored, of faces that both find."""
    for photograph in read_truth(folder):
        if not photograph.file.startswith(_PHOTOGRAPHS):
            continue
        image = decode_image((folder / photograph.file).read_bytes()).convert("RGB")
        for mirrored in (False, True):
            shown = ImageOps.mirror(image) if mirrored else image
            pixels = np.array(shown)
            frontal = [box for box, _ in find_exactly(shown)]
            (squares,) = find_mmod_faces(torch.from_numpy(pixels)[None])
            for square in squares:
                left, top, right, bottom = square.box
                ours = np.array([left, top, right + 1, bottom + 1], np.float64)
                for box in frontal:
                    theirs = np.array(box, np.float64)
                    apart = np.abs(_centre(ours) - _centre(theirs)).max()
                    if apart < _NEAR * _side(ours):
                        yield pixels, ours, theirs, mirrored


def _centre(box: FloatArray) -> FloatArray:
    return (box[:2] + box[2:]) / 2


def _side(box: FloatArray) -> float:
    return float((box[2:] - box[:2]).mean())


class Predictor:
    """The 68-point predictor."""

    def __init__(self) -> None:
        path = model_files() / "shape_predictor_68_face_landmarks.dat"
        self._predictor = dlib.shape_predictor(str(path))

    def __call__(self, pixels: npt.NDArray[np.uint8], box: FloatArray) -> FloatArray:
        """Landmarks [68, 2] for a box."""
        shape = self._predictor(pixels, dlib.rectangle(*(round(value) for value in box.tolist())))
        return np.array([(point.x, point.y) for point in shape.parts()], np.float64)


def main(folder: Path = typer.Argument(help="A folder of recipes.photographs.")) -> None:
    """Print the fit, its residuals, and distances of landmarks."""
    found = list(pairs(folder))
    rows = np.array(
        [
            (*(_centre(theirs) - _centre(ours)) / _side(ours), _side(theirs) / _side(ours))
            for _, ours, theirs, _ in found
        ]
    )
    mirrored = np.array([each[-1] for each in found])
    fit = np.median(rows, axis=0)
    print(f"{len(rows)} faces: shift right {fit[0]:.3f}, down {fit[1]:.3f}, sides {fit[2]:.3f}")
    for name, which in (("as they are", ~mirrored), ("mirrored", mirrored)):
        print(f"  {name}: {np.median(rows[which], axis=0).round(3)}")
    for quantile in (5, 25, 75, 95):
        print(f"  residual, {quantile}%: {np.percentile(rows - fit, quantile, axis=0).round(3)}")
    _print_landmarks(found, fit)


def _print_landmarks(
    found: list[tuple[npt.NDArray[np.uint8], FloatArray, FloatArray, bool]], fit: FloatArray
) -> None:
    """Mean distances from the landmarks of the frontal box, in distances between the eyes."""
    predict = Predictor()
    expected = [predict(pixels, theirs) for pixels, _, theirs, _ in found]
    # The frontal box in terms of the landmarks that it leads to.
    spans = [np.concatenate([points.min(axis=0), points.max(axis=0)]) for points in expected]
    again = np.median(
        [
            (*(_centre(each[2]) - _centre(span)) / _side(span), _side(each[2]) / _side(span))
            for each, span in zip(found, spans, strict=True)
        ],
        axis=0,
    )
    distances: dict[str, list[float]] = {"the square itself": [], "mapped": [], "fitted twice": []}
    for (pixels, ours, _, _), points in zip(found, expected, strict=True):
        once = predict(pixels, _mapped(ours, fit))
        span = np.concatenate([once.min(axis=0), once.max(axis=0)])
        tries = [predict(pixels, ours), once, predict(pixels, _mapped(span, again))]
        eyes = np.hypot(*(points[36:42].mean(axis=0) - points[42:48].mean(axis=0)))
        for name, each in zip(distances, tries, strict=True):
            distances[name].append(float(np.hypot(*(each - points).T).mean() / eyes))
    print(f"box of landmarks to frontal box: {again.round(3)}")
    for name, values in distances.items():
        print(f"  {name}: median {np.median(values):.3f}, 95% {np.percentile(values, 95):.3f}")


def _mapped(box: FloatArray, fit: FloatArray) -> FloatArray:
    side = _side(box)
    centre, half = _centre(box) + fit[:2] * side, fit[2] * side / 2
    return np.concatenate([centre - half, centre + half])


if __name__ == "__main__":
    typer.run(main)
