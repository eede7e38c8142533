"""The photographs that faces of an output came from, read again."""

from __future__ import annotations

import os
from collections.abc import Collection

from PIL import Image

from pipeline.manifest import images_of, read_plans
from pipeline.run_record import read_run
from pipeline.source_image import SourceImage
from pipeline.sources import SourceReader
from pipeline.sources.local_files import FILE, local_image
from pipeline.storage import open_storage
from restyle_core.errors import RejectError
from restyle_core.images import decode_image

Input = tuple[str, int]
"""``image_id`` and ``revision``."""


class Photographs:
    """Reads inputs of an output, each from where it was planned.

    Args:
        out: the output, a path or any fsspec URI.
        wanted: the inputs that may be asked for.

    Raises:
        FatalError: the manifest is damaged.
    """

    def __init__(self, out: str, wanted: Collection[Input]) -> None:
        storage = open_storage(out)
        run = read_run(storage)
        self._reader = SourceReader(run.asked.source if run is not None else "")
        self._images: dict[Input, SourceImage] = {}
        for file in read_plans(storage):
            for unit in file.units:
                for image in images_of(storage, file, unit.group):
                    key = (image.image_id, image.revision)
                    if key in wanted:
                        self._images[key] = image

    def read(self, image_id: str, revision: int) -> Image.Image:
        """An input as an upright RGB picture.

        Raises:
            OSError: it cannot be read any more, or is another one by now.
            RejectError: it is no image any more.
            FatalError, TransientError: its store refuses or fails.
        """
        image = self._images.get((image_id, revision))
        if image is None:
            raise FileNotFoundError("the manifest does not hold this photograph")
        if not image.place and image.version and image.uri.startswith(FILE):
            now = local_image(os.fsdecode(image.uri.removeprefix(FILE)))
            if now is not None and now.version and now.version != image.version:
                raise FileNotFoundError("the photograph was changed since it was inverted")
        return decode_image(self._reader.read(image))


def reason(error: OSError | RejectError) -> str:
    """Why a photograph could not be read, in words."""
    if isinstance(error, OSError):
        return error.strerror or " ".join(str(error).split()) or type(error).__name__
    return str(error)
