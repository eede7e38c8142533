"""Precision and recall of the detectors on photographs with known faces."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import typer
from PIL import Image

from recipes.photographs.truth import Face, Photograph, read_truth
from restyle.core.errors import RejectError
from restyle.core.faces.detection import Box, Detector, FacePolicy, candidates
from restyle.core.faces.landmarks import fit_candidates
from restyle.core.imaging.decoding import decode_image

# A box shows a face if its centre is off by less than this share of the face's side, and its side
# is larger or smaller by less than this factor.
_NEAR, _SIMILAR = 0.6, 2.2


@dataclass(frozen=True)
class Row:
    """What a detector makes of a photograph.

    Attributes:
        file: the photograph.
        kind: of photograph.
        detector: name of the detector.
        faces: number of faces in the photograph.
        found: number of these that were detected.
        false: number of detections that show none of them.
        cropped: number of faces that were detected and have a crop.
        confirmed: number of detections that a second detector was asked about.
    """

    file: str
    kind: str
    detector: str
    faces: int
    found: int
    false: int
    cropped: int
    confirmed: int


def shows(box: Box, face: Face) -> bool:
    """Whether a detection is of a face."""
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    ratio = (box[2] - box[0]) / face.side
    return math.dist(centre, face.centre) < _NEAR * face.side and 1 / _SIMILAR < ratio < _SIMILAR


def kind_of(photograph: Photograph) -> str:
    """The kind of a hard photograph, the subset of another."""
    if photograph.subset != "hard":
        return photograph.subset
    return Path(photograph.file).stem.rpartition("-")[0]


def measure(
    image: Image.Image, photograph: Photograph, faces: FacePolicy, detector: Detector
) -> Row:
    """Run a detector."""
    detections = candidates(image, faces, detector)
    try:
        fitted = fit_candidates(image, detections, faces)
    except RejectError:
        fitted = []
    if faces == "largest":
        detections = detections[:1]
    boxes, crops = [each.box for each in detections], [each.box for _, each in fitted]
    truth = photograph.faces
    return Row(
        file=photograph.file,
        kind=kind_of(photograph),
        detector=detector,
        faces=len(truth),
        found=sum(any(shows(box, face) for box in boxes) for face in truth),
        false=sum(not any(shows(box, face) for face in truth) for box in boxes),
        cropped=sum(any(shows(box, face) for box in crops) for face in truth),
        confirmed=sum(each.detector == "hog+cnn" for each in detections),
    )


def rows_of(path: Path) -> Iterator[Row]:
    """Rows of earlier runs."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield Row(**json.loads(line))


def main(
    folder: Path = typer.Argument(help="A folder of recipes.photographs."),
    detectors: str = typer.Option("hog,cnn,auto", help=f"Of {', '.join(get_args(Detector))}."),
    subsets: str = typer.Option("hard,faceless", help="Of the photographs."),
    faces: str = typer.Option("largest", help=f"Of {', '.join(get_args(FacePolicy))}."),
    rows: Path = typer.Option(
        Path("detection.jsonl"), help="A line for each photograph; those in it are not run again."
    ),
) -> None:
    """Print a line for each photograph and detector, then sums of each kind of photograph."""
    done = {(row.file, row.detector) for row in rows_of(rows)}
    for photograph in read_truth(folder):
        missing = [each for each in detectors.split(",") if (photograph.file, each) not in done]
        if photograph.subset not in subsets.split(",") or not missing:
            continue
        image = decode_image((folder / photograph.file).read_bytes()).convert("RGB")
        for detector in missing:
            row = measure(image, photograph, faces, detector)  # type: ignore[arg-type]
            with rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
            typer.echo(f"{row.file} {row.detector}: {row.found} of {row.faces}, {row.false} false")
    for line in sums(rows_of(rows)):
        typer.echo(line)


def sums(rows: Iterable[Row]) -> Iterator[str]:
    """A line for each kind of photograph, and one for all, of each detector."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        for kind in (row.kind, "all"):
            numbers = {key: value for key, value in asdict(row).items() if isinstance(value, int)}
            counts[kind, row.detector].update(photographs=1, **numbers)
    for (kind, detector), count in sorted(counts.items()):
        yield f"{kind:14} {detector:5} " + " ".join(f"{key} {count[key]}" for key in count)


if __name__ == "__main__":
    typer.run(main)
