"""Reduced pictures of the inputs of an output, read again from where they were planned."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from restyle.core.errors import RestyleError, SpecError
from restyle.pipeline.decoding.reduced import Reduced, ReducedReader
from restyle.pipeline.ledger.manifest import PlanFile, images_of, open_plan
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.sources import SourceReader
from restyle.pipeline.sources.photographs import read_unchanged
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.sources.web.client import WEB

MAX_BYTES = 64 * 2**20
"""Maximum size of a photograph that is read for a page."""

_OPEN_PLANS = 4


class InputPictures:
    """Reads inputs of an output at reduced size. Close it after use.

    Addresses have the permissions of a list's entries, because the output may come from somebody
    else. Nothing is asked for on the web.

    Args:
        output: the output.
        side: maximum width and height of the pictures in pixels.
    """

    def __init__(self, output: Output, side: int) -> None:
        self._output = output
        self._reduced = ReducedReader(side)
        self._reader: SourceReader | None = None
        self._plan = functools.lru_cache(_OPEN_PLANS)(self._opened)

    def read(self, image: SourceImage) -> Reduced:
        """Read an input at reduced size.

        Raises:
            OSError: the input can no longer be read, or its file has changed.
            RejectError: it cannot be decoded.
            SpecError: it is on the web, or too large.
            RestyleError: its store cannot be used.
        """
        if image.uri.startswith(WEB):
            raise SpecError("the photograph is on the web; nothing is fetched from there")
        if image.size > MAX_BYTES:
            raise SpecError(f"the photograph has {image.size:,} bytes, more than a page reads")
        if self._reader is None:
            self._reader = SourceReader("")
        return self._reduced(read_unchanged(self._reader, image))

    def find(self, image_id: str, revision: int, units: Iterable[str]) -> SourceImage:
        """Find an input in the manifest.

        Args:
            image_id: of the input.
            revision: of the input.
            units: names of the units among which it is.

        Raises:
            SpecError: it is in none of them.
            FatalError: the manifest is damaged.
        """
        for name in dict.fromkeys(self._plans_of(units)):
            file, rows = self._plan(name)
            at = pc.index(rows["image_id"], image_id).as_py()
            if at < 0:
                continue
            unit = rows["unit"][at].as_py()
            group = next(each.group for each in file.units if each.name == unit)
            for image in images_of(self._output.storage, file, group):
                if (image.image_id, image.revision) == (image_id, revision):
                    return image
        raise SpecError("the manifest of this output does not know the input")

    def close(self) -> None:
        """Stop the child processes."""
        self._reduced.close()
        if self._reader is not None:
            self._reader.close()

    def _plans_of(self, units: Iterable[str]) -> Iterator[str]:
        wanted = set(units)
        return (ref.plan for ref in self._output.manifest.units if ref.name in wanted)

    def _opened(self, name: str) -> tuple[PlanFile, pa.Table]:
        file = open_plan(self._output.storage, name)
        return file, file.parquet.read(columns=["unit", "image_id"], use_threads=False)


def picture_or_none(
    pictures: InputPictures, key: tuple[str, int], units: Sequence[str]
) -> Reduced | None:
    """Read an input at reduced size; None if that is not possible for any reason of its own.

    Args:
        pictures: reader of the output's inputs.
        key: ``image_id`` and ``revision``.
        units: names of the units among which it is.
    """
    with contextlib.suppress(OSError, RestyleError):
        return pictures.read(pictures.find(*key, units))
    return None
