"""Read again the photographs from which the faces of an output were cropped."""

from __future__ import annotations

import os
from collections.abc import Iterable

from restyle.core.imaging.photograph import Photograph, read_photograph
from restyle.pipeline.sources import SourceReader
from restyle.pipeline.sources.local_files import FILE, local_image
from restyle.pipeline.sources.source_image import SourceImage


class Photographs:
    """Reader of the inputs of an output, each from its planned location.

    Args:
        reader: reader for the same ``INPUT``.
        images: the inputs as recorded in the manifest.
    """

    def __init__(self, reader: SourceReader, images: Iterable[SourceImage]) -> None:
        self._reader = reader
        self._images = {(image.image_id, image.revision): image for image in images}

    def read(self, image_id: str, revision: int) -> Photograph:
        """Return an input in upright orientation and its own colours.

        Raises:
            OSError: the input can no longer be read, or its file has changed.
            RejectError: the file is no longer an image.
            FatalError, TransientError: the store refuses or fails.
        """
        return read_photograph(read_unchanged(self._reader, self._images[image_id, revision]))


def read_unchanged(reader: SourceReader, image: SourceImage) -> bytes:
    """Return the bytes of an input, unless a local file was changed since it was planned.

    Raises:
        OSError: the input can no longer be read, or its file has changed.
        RejectError, FatalError, TransientError: as
            :meth:`restyle.pipeline.sources.reader.SourceReader.read`.
    """
    if not image.place and image.version and image.uri.startswith(FILE):
        now = local_image(os.fsdecode(image.uri.removeprefix(FILE)))
        if now is not None and now.version and now.version != image.version:
            raise FileNotFoundError("the photograph was changed since it was inverted")
    return reader.read(image)
