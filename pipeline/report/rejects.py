"""Rejected inputs for reports: reasons, messages, and thumbnails where there is a picture."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from restyle.pipeline.ledger.datasets import REJECTS
from restyle.pipeline.ledger.entries import UnitRecord
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import HasFiles, file_of, open_parquet
from restyle.pipeline.report.input_pictures import InputPictures, picture_or_none

MAX_REJECTS = 200
MAX_THUMBNAILS = 60
"""Maximum number of rejects that are read again for a thumbnail."""

_SIDE = 160

REASONS = {
    "empty": "empty file",
    "not_an_image": "not an image",
    "unsupported_format": "format that is not read",
    "truncated": "damaged or cut off",
    "too_large": "too many pixels",
    "too_small": "too small",
    "animated": "several frames",
    "unsupported_mode": "unsupported kind of pixels",
    "no_face": "no face found",
    "turned_away": "face turned too far",
    "no_landmarks": "no landmarks in the file",
    "bad_landmarks": "unusable landmarks",
    "landmarks_outside": "landmarks outside of it",
    "unreadable": "cannot be read",
    "crashed": "crashed the decoder",
    "timed_out": "took too long",
    "damaged_archive": "in a damaged archive",
    "unsupported_archive": "in an unsupported archive",
    "duplicate_name": "name stands twice",
    "unsafe_name": "unsafe name",
}
"""Display names of reject reasons."""

PICTURED = ("no_face", "turned_away", "no_landmarks", "bad_landmarks", "landmarks_outside")
"""Reasons that do not keep the input from being decoded."""


@dataclass(frozen=True)
class Reject:
    """A row of ``rejects/``.

    Attributes:
        key: ``image_id`` and ``revision``.
        thumbnail: data URI; empty without a picture.
    """

    source: str
    stage: str
    reason: str
    message: str
    key: tuple[str, int] = ("", 0)
    thumbnail: str = ""

    @property
    def title(self) -> str:
        """The reason as people say it."""
        return REASONS.get(self.reason, self.reason)


def read_rejects(out: str, records: Sequence[HasFiles], most: int = MAX_REJECTS) -> list[Reject]:
    """Return the first rejects of a run, in the order of its units."""
    rejects: list[Reject] = []
    for record in records:
        file = file_of(record, REJECTS)
        if file is None:
            continue
        with open_parquet(out, file[0]) as parquet:
            columns = ["source", "stage", "reason", "message", "image_id", "revision"]
            for batch in parquet.iter_batches(most, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    key = (row.pop("image_id"), row.pop("revision"))
                    rejects.append(Reject(**row, key=key))
                if len(rejects) >= most:
                    return rejects[:most]
    return rejects


def with_thumbnails(output: Output, rejects: Sequence[Reject]) -> list[Reject]:
    """Add thumbnails to the first rejects that can be decoded, read again from where they were.

    What cannot be read has no thumbnail.

    Args:
        output: the output.
        rejects: its rejects.
    """
    wanted = [reject for reject in rejects if reject.reason in PICTURED][:MAX_THUMBNAILS]
    if not wanted:
        return list(rejects)
    pictures = InputPictures(output, _SIDE)
    try:
        found = dict(_thumbnails(pictures, wanted, [unit.name for unit in output.manifest.units]))
    finally:
        pictures.close()
    return [replace(each, thumbnail=found.get(each.key, "")) for each in rejects]


def _thumbnails(
    pictures: InputPictures, rejects: Sequence[Reject], units: Sequence[str]
) -> Iterator[tuple[tuple[str, int], str]]:
    for reject in rejects:
        reduced = picture_or_none(pictures, reject.key, units)
        if reduced is not None:
            yield reject.key, _data_uri(reduced.image)


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def reasons_of(records: Sequence[UnitRecord]) -> Counter[str]:
    """Count rejects by reason."""
    reasons = Counter[str]()
    for record in records:
        reasons.update(record.rejects)
    return reasons
