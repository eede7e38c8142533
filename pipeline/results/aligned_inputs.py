"""The aligned inputs of an output, which are stored with its reconstructions."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa
from PIL import Image

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.ledger.datasets import RECONSTRUCTIONS
from restyle.pipeline.ledger.entries import read_file_sets
from restyle.pipeline.ledger.parquet_files import BATCH_ROWS, file_of, open_parquet
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.results.face_rows import Key
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import open_storage

_COLUMNS = ["image_id", "revision", "face", "step", "image"]


def read_inputs(
    out: str, settings: ResolvedSettings, wanted: set[Key]
) -> Iterator[tuple[Key, Image.Image]]:
    """Yield the encoder's input of each face: step 0 of ``reconstructions``.

    Args:
        out: the output, a path or any fsspec URI.
        settings: of the output.
        wanted: the faces.

    Raises:
        SpecError: the output has no reconstructions, or its first step is by another model.
        FatalError: a file is damaged.
    """
    if settings.reconstructions == "none":
        raise SpecError(f"{out} kept no pictures; run restyle invert with --reconstructions last")
    if settings.bootstrap is not None:
        raise SpecError(f"the first step of {out} is another model's; give an output of one model")
    for files in read_file_sets(open_storage(out)):
        named = file_of(files, RECONSTRUCTIONS)
        if named is None:
            continue
        with open_parquet(out, named[0]) as parquet:
            try:
                for batch in parquet.iter_batches(BATCH_ROWS, columns=_COLUMNS, use_threads=False):
                    for row in batch.to_pylist():
                        key = (row["image_id"], row["revision"], row["face"])
                        if row["step"] == 0 and key in wanted:
                            yield key, Image.open(io.BytesIO(row["image"])).convert("RGB")
            except (pa.ArrowException, OSError, KeyError) as error:
                raise FatalError(
                    f"cannot read {out}/{named[0]}: {str(error).splitlines()[0]}; {DAMAGE}"
                ) from error
