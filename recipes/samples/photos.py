"""Make the sample photographs of ``samples/photos``: people who do not exist, and bad inputs.

Run from the root of the repository, with the wheel file of ``gan_face_generate`` 1.1.1::

    python -m recipes.samples.photos gan_face_generate-1.1.1-py3-none-any.whl samples/photos
"""

from __future__ import annotations

import functools
import io
import zlib
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image

from recipes.faces64.teacher import Z_DIM, load_teacher, sample_photos
from recipes.samples import rejects
from recipes.samples.catalogue import PHOTOS, Draw, Photo
from recipes.samples.paint import Person
from restyle.core.faces.alignment import find_landmarks
from restyle.core.imaging.decoding import decode_image

FIRST_SEED = 500_000
"""Training data is drawn from far lower seeds, so that no sample was seen in training."""

MAX_BYTES = 2_500_000
LEAST_SIDE = 256
_EXIF_ORIENTATION = 0x0112


def encode(photo: Photo, draw: Draw) -> bytes:
    """Paint a photo and encode it by the ending of its name."""
    rng = np.random.default_rng(zlib.crc32(photo.name.encode()))
    image = photo.scene(draw, rng)
    options = dict(photo.encoding)
    if photo.orientation != 1:
        # The camera was held so; a viewer that honours the tag shows the photo upright.
        back = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[photo.orientation]
        image = image.transpose(back)
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = photo.orientation
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[Path(photo.name).suffix], **options)
    return buffer.getvalue()


def main(
    wheel: Path = typer.Argument(help="The wheel file of gan_face_generate."),
    out: Path = typer.Argument(help="The folder to write; files of the same name are replaced."),
) -> None:
    """Write every photo, check that dlib finds exactly its faces, then write the rejects."""
    torch.set_num_threads(1)
    teacher = load_teacher(wheel)

    @functools.cache
    def draw(seed: int) -> Person:
        if seed < FIRST_SEED:
            raise ValueError(f"seed {seed} may be in the training set; begin at {FIRST_SEED}")
        z = torch.randn(1, Z_DIM, generator=torch.Generator().manual_seed(seed))
        return sample_photos(teacher, z)[0]

    total, wrong = 0, []
    for photo in PHOTOS:
        data = encode(photo, draw)
        image = decode_image(data)
        if min(image.size) < LEAST_SIDE:
            wrong.append(f"{photo.name}: {image.size} is below {LEAST_SIDE} pixels")
        found = len(find_landmarks(image))
        if found != photo.faces:
            wrong.append(f"{photo.name}: dlib finds {found} faces instead of {photo.faces}")
        total += _write(out / photo.name, data)
        print(f"{photo.name}: {found} faces, {len(data):,} bytes", flush=True)
    for name, data in rejects.make(draw(FIRST_SEED + 141), draw(FIRST_SEED + 33)).items():
        total += _write(out / "unusable" / name, data)
    print(f"{sum(photo.faces for photo in PHOTOS)} faces, {total:,} bytes in all")
    if wrong or total > MAX_BYTES:
        raise SystemExit("\n".join([*wrong, f"{total:,} bytes of at most {MAX_BYTES:,}"]))


def _write(path: Path, data: bytes) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return len(data)


if __name__ == "__main__":
    typer.run(main)
