"""Files of several pictures: a grid (PNG), an animation, or rows of Parquet."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from PIL import Image

from restyle.core.errors import RestyleError, SpecError
from restyle.core.imaging.animating.animation import FORMATS, encode_animation, enlarged
from restyle.core.imaging.animating.video import check_video
from restyle.pipeline.ledger.datasets import column, encode
from restyle.pipeline.sources.output_names import MARKS
from restyle.pipeline.storage.filesystem import open_storage, shown_uri

if TYPE_CHECKING:
    # Not imported at run time, because drawing grids needs no torch.
    from restyle.pipeline.pictures.latent_pictures import Pictures

_GAP = 4


def check_kind(to: str, kinds: Sequence[str]) -> str:
    """Check the suffix of an output file and return it, for calls before any computation.

    Raises:
        SpecError: the suffix is not among ``kinds``, or its package is not installed.
    """
    suffix = PurePath(to).suffix.lower()
    if suffix not in kinds:
        raise SpecError(f"{shown_uri(to)}: what can be written ends in {', '.join(kinds)}")
    if suffix == ".mp4":
        check_video(to)
    return suffix


def write_file(to: str, data: bytes) -> None:
    """Write one file atomically and mark it as no input; ``to`` is a path or any fsspec URI."""
    folder, slash, name = to.rpartition("/")
    storage = open_storage(folder + slash if folder or slash else ".")
    mark = f"{MARKS}/{name}"
    # The mark is written first, so that the file never exists without it.
    storage.write(mark, b"")
    try:
        storage.write(name, data)
    except RestyleError:
        # A file of this name that a user puts there later is an input.
        with contextlib.suppress(RestyleError):
            if name not in storage.sizes("", name):
                storage.delete(mark)
                storage.prune([MARKS])
        raise


def write_pictures(to: str, pictures: Pictures, seconds: float) -> None:
    """Write frames in the format of the file's suffix.

    Args:
        to: ends in ``.png``, ``.parquet``, ``.webp``, ``.gif`` or ``.mp4``.
        pictures: the frames.
        seconds: duration of each frame in animations.
    """
    suffix = PurePath(to).suffix.lower()
    if suffix in FORMATS:
        durations = [seconds] * len(pictures.images)
        write_file(to, encode_animation(pictures.images, durations, FORMATS[suffix]))
    elif suffix == ".parquet":
        write_file(to, frame_rows(pictures))
    else:
        write_file(to, as_png(grid([pictures.images])))


def frame_rows(pictures: Pictures) -> bytes:
    """A Parquet file with columns ``frame``, ``latent``, ``format``, ``image``."""
    count, *shape = pictures.latents.shape
    latents = column(np.ascontiguousarray(pictures.latents.numpy()), (shape[0], shape[1]))
    field = pa.field("latent", latents.type, nullable=False, metadata={"shape": json.dumps(shape)})
    schema = pa.schema(
        [
            pa.field("frame", pa.int32(), nullable=False),
            field,
            pa.field("format", pa.string(), nullable=False),
            pa.field("image", pa.binary(), nullable=False),
        ]
    )
    images = [as_png(image) for image in pictures.images]
    return encode(pa.table([list(range(count)), latents, ["png"] * count, images], schema=schema))


def grid(rows: Sequence[Sequence[Image.Image | None]]) -> Image.Image:
    """Arrange pictures of one size in a grid, small ones enlarged; None leaves a cell empty."""
    drawn = [[None if image is None else enlarged(image, 128) for image in row] for row in rows]
    width, height = next(image.size for row in drawn for image in row if image is not None)
    columns = max(map(len, drawn))
    size = (columns * (width + _GAP) - _GAP, len(drawn) * (height + _GAP) - _GAP)
    sheet = Image.new("RGB", size, "white")
    for y, row in enumerate(drawn):
        for x, image in enumerate(row):
            if image is not None:
                sheet.paste(image, (x * (width + _GAP), y * (height + _GAP)))
    return sheet


def as_png(image: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()
