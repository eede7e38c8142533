"""Editing of faces: moving latents, rendering, scoring, and pasting back into photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restyle.core.editing.attributes import measure
from restyle.core.editing.directions import Direction
from restyle.core.editing.paste_back import paste_back
from restyle.core.editing.strengths import apply, truncate
from restyle.core.errors import RejectError, reason_of
from restyle.core.imaging.photograph import Photograph
from restyle.core.imaging.png import encode_png
from restyle.core.imaging.preprocessing import to_pictures
from restyle.core.inference.model import Model
from restyle.core.inference.tuning import decoded
from restyle.pipeline.editing.rows import EditedFaces, FloatArray
from restyle.pipeline.editing.settings import EditSettings
from restyle.pipeline.results.face_rows import FaceRows, Key
from restyle.pipeline.sources.photographs import Photographs


@dataclass(frozen=True, eq=False)
class _Rendered:
    """Pictures of N faces: unedited ones, those of each edit, and identities [N, edits]."""

    before: Sequence[Image.Image]
    pictures: Sequence[Sequence[Image.Image]]
    kept: FloatArray


class Editor:
    """Applies one set of edits to faces.

    Args:
        model: to render with.
        settings: of the edits.
        directions: the directions of the settings, in their order.
    """

    def __init__(
        self, model: Model, settings: EditSettings, directions: Sequence[Direction]
    ) -> None:
        self._model = model
        self._settings = settings
        self._directions = directions

    @torch.inference_mode()
    def __call__(
        self,
        faces: FaceRows,
        photographs: Photographs | None = None,
        weights_of: Callable[[Key], bytes | None] | None = None,
    ) -> EditedFaces:
        """Compute all edits of all faces.

        Args:
            faces: the faces to edit.
            photographs: to paste them into; None unless the settings require it.
            weights_of: weights of the generator that was tuned for a face, as of
                :func:`restyle.pipeline.results.face_rows.tuned_weights`; None if none was.

        Raises:
            SpecError: a direction does not fit the latents.
            CheckpointError: the weights of a tuned generator are damaged.
        """
        model, settings = self._model, self._settings
        original = torch.from_numpy(np.array(faces.latents)).to(model.device)
        start = truncate(original, model.latent_avg, settings.truncation)
        edited = [self._moved(start, strengths) for strengths in settings.combinations]
        if weights_of is None:
            parts = [self._rendered(model, original, edited)]
        else:
            parts = [
                self._rendered(
                    self._own_model(weights_of(key)),
                    original[row : row + 1],
                    [latents[row : row + 1] for latents in edited],
                )
                for row, key in enumerate(faces.keys)
            ]
        before = [picture for part in parts for picture in part.before]
        pictures = [
            [picture for part in parts for picture in part.pictures[edit]]
            for edit in range(len(edited))
        ]
        kept = np.concatenate([part.kept for part in parts])
        photos, problems = self._pasted(photographs, faces, before, pictures)
        scores = [self._scores(each) for each in pictures]
        return EditedFaces(
            faces=faces,
            latents=torch.stack(edited, dim=1).cpu().numpy(),
            images=[[_encoded(each[row]) for each in pictures] for row in range(len(faces))],
            identity=kept,
            scores={
                name: np.stack([each[name] for each in scores], axis=1)
                for name in settings.attributes
            },
            before=self._scores(before),
            photos=photos,
            problems=problems,
        )

    def _own_model(self, weights: bytes | None) -> Model:
        return self._model if weights is None else self._model.tuned(decoded(weights))

    def _rendered(self, model: Model, original: Tensor, edited: Sequence[Tensor]) -> _Rendered:
        """Render faces and all of their edits with one generator."""
        plain = model.synthesize(original)
        identity = model.metrics(["id_similarity"]).against(model.pool(plain))
        pictures, kept = [], []
        for latents in edited:
            # Rendering equal latents again could differ by rounding.
            images = plain if torch.equal(latents, original) else model.synthesize(latents)
            pictures.append(to_pictures(images))
            kept.append(identity(model.pool(images))["id_similarity"].numpy())
        return _Rendered(to_pictures(plain), pictures, np.stack(kept, axis=1))

    def _moved(self, latents: Tensor, strengths: Sequence[float]) -> Tensor:
        for direction, strength in zip(self._directions, strengths, strict=True):
            latents = apply(latents, direction, strength)
        return latents

    def _scores(self, pictures: Sequence[Image.Image]) -> dict[str, np.ndarray]:
        if not self._settings.attributes:
            return {}
        found = measure(pictures)
        return {name: found[name] for name in self._settings.attributes}

    def _pasted(
        self,
        photographs: Photographs | None,
        faces: FaceRows,
        before: Sequence[Image.Image],
        edits: Sequence[Sequence[Image.Image]],
    ) -> tuple[list[list[bytes | None]], list[str | None]]:
        """Photographs of each face, and reasons for missing ones.

        All faces of a photograph are pasted into it; the photograph belongs to the first face.
        """
        photos: list[list[bytes | None]] = []
        problems: list[str | None] = []
        if photographs is None:
            return photos, problems
        photos = [[None] * len(edits) for _ in range(len(faces))]
        problems = [None] * len(faces)
        of_input: dict[tuple[str, int], list[int]] = {}
        for row, (image_id, revision, _) in enumerate(faces.keys):
            of_input.setdefault((image_id, revision), []).append(row)
        for (image_id, revision), rows in of_input.items():
            try:
                photo = photographs.read(image_id, revision)
            except (OSError, RejectError) as error:
                for row in rows:
                    problems[row] = reason_of(error)
                continue
            for edit, pictures in enumerate(edits):
                joined = self._joined(photo, faces, rows, before, pictures)
                photos[rows[0]][edit] = photo.encoded(joined)
        return photos, problems

    def _joined(
        self,
        photo: Photograph,
        faces: FaceRows,
        rows: Sequence[int],
        before: Sequence[Image.Image],
        pictures: Sequence[Image.Image],
    ) -> Image.Image:
        """A photograph with one edit of all its faces, in the photograph's colours."""
        joined = photo.pixels
        # The largest face is the first one, and is pasted last, over the others.
        for row in reversed(rows):
            # Faces are converted to the photograph's colour space, because converting the
            # photograph to sRGB would lose colours.
            face, original = photo.in_its_colours(pictures[row]), None
            if self._settings.paste_back == "change":
                original = photo.in_its_colours(before[row])
            joined = paste_back(joined, face, faces.quads[row], original=original)
        return joined


def _encoded(picture: Image.Image) -> bytes:
    return encode_png(np.asarray(picture.convert("RGB")))
