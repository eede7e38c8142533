"""Precision and recall of the detectors on photographs with known faces."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import get_args

import typer

from recipes.photographs.truth import Face, read_truth
from restyle.core.errors import RejectError
from restyle.core.faces.detection import Box, Detector, detect
from restyle.core.faces.landmarks import find_landmarks
from restyle.core.imaging.decoding import decode_image

# A box shows a face if its centre is off by less than this share of the face's side, and its side
# is larger or smaller by less than this factor.
_NEAR, _SIMILAR = 0.6, 2.2


def shows(box: Box, face: Face) -> bool:
    """Whether a detection is of a face."""
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    ratio = (box[2] - box[0]) / face.side
    return math.dist(centre, face.centre) < _NEAR * face.side and 1 / _SIMILAR < ratio < _SIMILAR


def main(
    folder: Path = typer.Argument(help="A folder of recipes.photographs."),
    detectors: str = typer.Option("hog,cnn,auto", help=f"Of {', '.join(get_args(Detector))}."),
) -> None:
    """Print a line for each kind of photograph and detector."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for photograph in read_truth(folder):
        if photograph.subset not in ("hard", "faceless"):
            continue
        name = Path(photograph.file).stem.rpartition("-")[0]
        kind = name if photograph.subset == "hard" else "faceless"
        image = decode_image((folder / photograph.file).read_bytes()).convert("RGB")
        for detector in detectors.split(","):
            found = detect(image, "largest", detector)  # type: ignore[arg-type]
            hits = [any(shows(each.box, face) for each in found) for face in photograph.faces]
            wrong = [not any(shows(each.box, face) for face in photograph.faces) for each in found]
            try:
                cropped = len(find_landmarks(image, "largest", detector))  # type: ignore[arg-type]
            except RejectError:
                cropped = 0
            counts[kind, detector].update(
                photographs=1, faces=len(hits), found=sum(hits), false=sum(wrong), cropped=cropped
            )
    for (kind, detector), count in counts.items():
        print(f"{kind:14} {detector:5}", dict(count))


if __name__ == "__main__":
    typer.run(main)
