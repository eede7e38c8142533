"""Schema and tables of ``edits/``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.pipeline.editing.settings import EditSettings
from restyle.pipeline.ledger.datasets import column
from restyle.pipeline.results.face_rows import FaceRows

FOLDER = "edits"
VERSION = 1
IMAGE_FORMAT = "png"

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EditedFaces:
    """N faces with E edits each.

    Attributes:
        faces: the N faces.
        latents: [N, E, n_styles, style_dim].
        images: N times E encoded images.
        identity: [N, E]; NaN if not measured.
        scores: [N, E] by attribute; NaN if no face was found.
        before: [N] by attribute, of the unedited face.
        photos: N times E encoded photographs with all their faces pasted back; None except for a
            photograph's first face; empty unless requested.
        problems: N reasons for a missing photograph, or None; empty unless requested.
    """

    faces: FaceRows
    latents: FloatArray
    images: Sequence[Sequence[bytes]]
    identity: FloatArray
    scores: dict[str, FloatArray]
    before: dict[str, FloatArray]
    photos: Sequence[Sequence[bytes | None]] = field(default_factory=list)
    problems: Sequence[str | None] = field(default_factory=list)


def strength_column(direction: str) -> str:
    """Name of the column with the strength of a direction."""
    return f"strength_{direction}"


def change_column(attribute: str) -> str:
    """Name of the column with an attribute's change from the unedited face."""
    return f"{attribute}_change"


def edit_schema(settings: EditSettings, latent_shape: tuple[int, int]) -> pa.Schema:
    """Schema of ``edits``: key of the face, strengths, results."""
    scores = [name for each in settings.attributes for name in (each, change_column(each))]
    size = latent_shape[0] * latent_shape[1]
    element = pa.field("element", pa.float32(), nullable=False)
    fields = [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("revision", pa.int16(), nullable=False),
        pa.field("face", pa.int16(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("edit", pa.int16(), nullable=False),
        *(
            pa.field(strength_column(each.name), pa.float32(), nullable=False)
            for each in settings.directions
        ),
        pa.field(
            "latent",
            pa.list_(element, size),
            nullable=False,
            metadata={"shape": json.dumps(latent_shape)},
        ),
        pa.field(
            "id_similarity",
            pa.float32(),
            metadata={"definition": "cosine of face embeddings to the unedited reconstruction"},
        ),
        *(pa.field(name, pa.float32()) for name in scores),
        pa.field("format", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
    ]
    if settings.paste_back != "none":
        fields += [pa.field("photo", pa.binary()), pa.field("photo_problem", pa.string())]
    return pa.schema(
        fields,
        {
            "restyle.dataset": FOLDER,
            "restyle.version": str(VERSION),
            "restyle.fingerprint": settings.fingerprint,
            # A copy, in case the ledger's is lost.
            "restyle.settings": settings.model_dump_json(),
        },
    )


def edit_table(edited: EditedFaces, settings: EditSettings) -> pa.Table:
    """The rows of faces, ordered by face."""
    count, edits, *shape = edited.latents.shape
    faces = edited.faces
    ids, revisions, numbers = (
        [each for each in part for _ in range(edits)] for part in zip(*faces.keys, strict=True)
    )
    columns: dict[str, object] = {
        "image_id": ids,
        "revision": revisions,
        "face": numbers,
        "source": [source for source in faces.sources for _ in range(edits)],
        "edit": np.tile(np.arange(edits, dtype=np.int16), count),
        "latent": column(edited.latents, (shape[0], shape[1])),
        "id_similarity": _nullable(edited.identity),
        "format": [IMAGE_FORMAT] * (count * edits),
        "image": [image for images in edited.images for image in images],
    }
    strengths = np.array(settings.combinations, dtype=np.float32)
    for index, direction in enumerate(settings.directions):
        columns[strength_column(direction.name)] = np.tile(strengths[:, index], count)
    for name in settings.attributes:
        columns[name] = _nullable(edited.scores[name])
        change = edited.scores[name] - edited.before[name][:, None]
        columns[change_column(name)] = _nullable(change)
    if settings.paste_back != "none":
        columns["photo"] = [photo for photos in edited.photos for photo in photos]
        columns["photo_problem"] = [each for each in edited.problems for _ in range(edits)]
    return pa.table(columns, schema=edit_schema(settings, (shape[0], shape[1])))


def _nullable(values: FloatArray) -> pa.Array:
    flat = values.reshape(-1)
    return pa.array(flat, pa.float32(), mask=np.isnan(flat))
