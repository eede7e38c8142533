"""All inputs of a source in one list, as the tests of sources ask for them."""

from __future__ import annotations

from pathlib import Path

from restyle.pipeline.sources import iter_images
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage

AUTO = InputOptions()


def listed(
    source: Path | str, options: InputOptions = AUTO, notes: list[str] | None = None
) -> list[SourceImage]:
    """List a source; lines about what is skipped are added to ``notes``."""
    noted = [] if notes is None else notes
    batches = iter_images(str(source), "/out", options, noted=noted.append)
    return [image for batch in batches for image in batch]
