"""The photographs that faces of an output came from, read again."""

from __future__ import annotations

import os
from collections.abc import Iterable

from restyle.core.errors import RejectError
from restyle.core.imaging.photograph import Photograph, read_photograph
from restyle.pipeline.sources import SourceReader
from restyle.pipeline.sources.local_files import FILE, local_image
from restyle.pipeline.sources.source_image import SourceImage


class Photographs:
    """Some inputs of an output, each read from where it was planned.

    Args:
        reader: of the same ``INPUT``.
        images: as they stand in the manifest.
    """

    def __init__(self, reader: SourceReader, images: Iterable[SourceImage]) -> None:
        self._reader = reader
        self._images = {(image.image_id, image.revision): image for image in images}

    def read(self, image_id: str, revision: int) -> Photograph:
        """An input, upright, in its own colours.

        Raises:
            OSError: it cannot be read any more, or is another one by now.
            RejectError: it is no image any more.
            FatalError, TransientError: its store refuses or fails.
        """
        image = self._images[image_id, revision]
        if not image.place and image.version and image.uri.startswith(FILE):
            now = local_image(os.fsdecode(image.uri.removeprefix(FILE)))
            if now is not None and now.version and now.version != image.version:
                raise FileNotFoundError("the photograph was changed since it was inverted")
        return read_photograph(self._reader.read(image))


def reason(error: OSError | RejectError) -> str:
    """Why a photograph could not be read, in words."""
    if isinstance(error, OSError):
        return error.strerror or " ".join(str(error).split()) or type(error).__name__
    return str(error)
