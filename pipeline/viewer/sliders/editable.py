"""A face that the page edits: of a run, or of a photograph that was dropped on the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.editing.directions import parse_layers
from restyle.core.editing.paste_back import paste_back
from restyle.core.errors import SpecError, reason_of
from restyle.pipeline.decoding.reduced import Reduced
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.viewer.answers import Answer, number_from
from restyle.pipeline.viewer.sliders.edits import Amount, Edits, Moves

PHOTO_SIDE = 1024
"""Maximum width and height of a photograph on the page."""

_LAYERS = ":layers"


class Editable(Protocol):
    """A face with a latent and a photograph."""

    @property
    def name(self) -> str:
        """Name of the photograph."""

    @property
    def latent(self) -> FloatArray:
        """Its latent, [n_styles, style_dim]."""

    @property
    def quad(self) -> npt.NDArray[np.float64]:
        """Corners of the crop in the photograph's pixels, [4, 2]."""

    @property
    def weights(self) -> bytes | None:
        """Weights of the generator that was tuned for it; None for the model's own."""

    def photo(self) -> Reduced:
        """The photograph, reduced.

        Raises:
            OSError, RestyleError: it cannot be read.
        """


@dataclass(frozen=True)
class Wanted:
    """What a request asks of an edit.

    Attributes:
        moves: amounts by direction.
        form: ``webp`` for the page, ``png`` or ``npy`` to save.
        in_photo: whether the face is pasted into the photograph.
    """

    moves: Moves
    form: str = "webp"
    in_photo: bool = False


def wanted(query: Mapping[str, str]) -> Wanted:
    """Parse ``NAME=STRENGTH``, ``NAME:layers=RANGES``, ``:as=png`` and ``:in=photo``.

    Names of directions have no colon.

    Raises:
        SpecError: a value is invalid.
    """
    amounts: dict[str, Amount] = {}
    for key, value in query.items():
        if key.startswith(":") or key.endswith(_LAYERS):
            continue
        text = query.get(f"{key}{_LAYERS}", "own").strip()
        layers = {"": None, "own": None, "all": "all"}
        chosen = layers[text] if text in layers else parse_layers(text)
        amounts[key] = Amount(number_from(key, value), chosen)
    form, place = query.get(":as", "webp"), query.get(":in", "")
    if form not in ("webp", "png", "npy") or place not in ("", "photo"):
        raise SpecError("an edit is given as webp, png or npy, and in the photo or alone")
    return Wanted(amounts, form, place == "photo")


def edited(edits: Edits, face: Editable, asked: Wanted) -> Answer:
    """Render an edit of a face.

    Raises:
        SpecError: the edit is impossible.
        RestyleError: the model, the run or the photograph cannot be read.
    """
    if asked.form == "npy":
        buffer = io.BytesIO()
        np.save(buffer, edits.moved(face.latent, asked.moves), allow_pickle=False)
        return Answer(buffer.getvalue(), "application/octet-stream", saved_as=_file(face, "npy"))
    picture = edits.picture(face.latent, asked.moves, face.weights)
    if asked.in_photo:
        picture = pasted(read_photo(face), face.quad, picture)
    if asked.form == "png":
        return Answer(_encoded(picture, "PNG"), "image/png", saved_as=_file(face, "png"))
    return photo_answer(picture) if asked.in_photo else shown(picture)


def read_photo(face: Editable) -> Reduced:
    """The reduced photograph of a face.

    Raises:
        SpecError: it cannot be read now.
        RestyleError: it cannot be decoded, or its store refuses.
    """
    try:
        return face.photo()
    except OSError as error:
        reason = reason_of(error)
        raise SpecError(f"the photograph cannot be read: {reason}") from error


def pasted(photo: Reduced, quad: npt.NDArray[np.float64], face: Image.Image) -> Image.Image:
    """Paste a face into its reduced photograph."""
    # Pixel centres have integer coordinates.
    return paste_back(photo.image, face, (quad + 0.5) * photo.scale - 0.5)


def shown(picture: Image.Image) -> Answer:
    """A picture for the page."""
    is_small = max(picture.size) <= 128
    return Answer(_encoded(picture, "WEBP", lossless=is_small, quality=90), "image/webp")


def photo_answer(image: Image.Image) -> Answer:
    """A photograph for the page. JPEG, because it is encoded ten times as fast as WebP."""
    return Answer(_encoded(image, "JPEG", quality=90), "image/jpeg")


def _encoded(image: Image.Image, form: str, **options: bool | int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _file(face: Editable, suffix: str) -> str:
    """Name of a file to save, of letters that no header or file system takes amiss."""
    stem = re.split(r"/|::", face.name)[-1].rpartition(".")[0] or "face"
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', stem)[:80].strip('.-') or 'face'}-edited.{suffix}"
