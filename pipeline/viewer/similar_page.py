"""A page of the faces that are nearest to one, with their pictures in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from restyle.core.shown_text import plural
from restyle.pipeline.report.html import render_page
from restyle.pipeline.results.similar import Neighbours
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.viewer.pictures import Pictures, thumbnail


@dataclass(frozen=True)
class Shown:
    """Pictures of a face.

    Attributes:
        name: of the face, as the command line takes it.
        distance: of its latent.
        pictures: encoded input and last reconstruction, as far as the run kept them.
    """

    name: str
    distance: float
    pictures: Sequence[bytes]


def shown_faces(snapshot: Snapshot, found: Neighbours) -> list[Shown]:
    """Read the pictures of the faces that were found.

    Raises:
        FatalError: a file is missing or damaged.
    """
    pictures = Pictures(snapshot.out)
    faces = []
    for row, place in zip(found.rows.to_pylist(), found.places, strict=True):
        steps = pictures.of(place)
        kept = [steps[step] for step in sorted({min(steps), max(steps)})] if steps else []
        name = f"{row['source']}#{row['face']}" if row["face"] else row["source"]
        faces.append(Shown(name, row["distance"], kept))
    return faces


def similar_page(snapshot: Snapshot, what: str, faces: Sequence[Shown]) -> bytes:
    """Render the page, which needs no network and no script.

    Args:
        snapshot: the run.
        what: the face, file or latent that was looked for.
        faces: nearest first.
    """
    values = {
        "what": what,
        "uri": snapshot.storage.uri,
        "count": plural(len(faces), "face"),
        "faces": [
            {
                "name": face.name,
                "distance": f"{face.distance:.4f}",
                "pictures": [_embedded(each, face.name) for each in face.pictures],
            }
            for face in faces
        ],
    }
    return render_page("similar.html.j2", values)


def _embedded(picture: bytes, name: str) -> str:
    data = thumbnail(picture, f"the picture of {name}")
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
