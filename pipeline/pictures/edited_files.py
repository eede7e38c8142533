"""Files of edited faces, named after their photographs and edits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from restyle.core.errors import SpecError
from restyle.core.shown_text import visible
from restyle.pipeline.accounting.operation import own_settings
from restyle.pipeline.editing.operation import EDITING
from restyle.pipeline.editing.rows import FOLDER
from restyle.pipeline.editing.settings import EditSettings
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import BATCH_ROWS, file_of, open_parquet
from restyle.pipeline.pictures.picture_file import write_file

# Shorter than the 255 bytes of file systems, to leave room for the edit's name.
_LONGEST = 120


def write_edited(edits: str, folder: str) -> int:
    """Write all pictures of an output of edits as PNG files, and the photographs it has.

    Files are named ``PHOTOGRAPH smile+2.png``, and ``PHOTOGRAPH smile+2 photograph.png`` for the
    photograph with all its faces edited. Files of these names are replaced.

    Args:
        edits: the output of edits, a path or any fsspec URI.
        folder: for the files, likewise.

    Returns:
        The number of files.

    Raises:
        SpecError: there are no edits.
        FatalError: a file cannot be read or written.
    """
    output = Output.at(edits)
    settings = own_settings(output.storage, EDITING, "EDITS")
    if settings is None:
        raise SpecError(f"{output.storage.uri} holds no edits; give what restyle edit wrote")
    taken: dict[str, str] = {}
    written = 0
    for row in _rows(output):
        base = file_base(row, taken)
        what = _edit_name(settings, row["edit"])
        write_file(f"{folder.rstrip('/')}/{base} {what}.png", row["image"])
        written += 1
        if row.get("photo"):
            write_file(f"{folder.rstrip('/')}/{base} {what} photograph.png", row["photo"])
            written += 1
    return written


def _rows(output: Output) -> Iterator[dict[str, Any]]:
    for files in output.sets():
        named = file_of(files, FOLDER)
        if named is None:
            continue
        with open_parquet(output.address, named[0]) as parquet:
            wanted = ["image_id", "face", "source", "edit", "image", "photo"]
            columns = [name for name in wanted if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                yield from batch.to_pylist()


def file_base(row: dict[str, Any], taken: dict[str, str]) -> str:
    """Return the name of a face's files: that of its photograph, with its number from 1 on.

    Args:
        row: ``source``, ``image_id`` and ``face``.
        taken: names by photograph, so that those of equal names differ; extended.
    """
    last = re.split(r"/|::", row["source"])[-1]
    stem = last.rpartition(".")[0] or last or "face"
    base = re.sub(r"[/\\\0]", "-", visible(stem)).strip(". ")
    base = base.encode()[:_LONGEST].decode(errors="ignore") or "face"
    # Photographs in different folders may have the same name.
    if taken.setdefault(base.casefold(), row["image_id"]) != row["image_id"]:
        base = f"{base} {row['image_id'][:8]}"
    return f"{base}#{row['face']}" if row["face"] else base


def _edit_name(settings: EditSettings, edit: int) -> str:
    strengths = settings.combinations[edit]
    names = (each.name for each in settings.directions)
    return " ".join(f"{name}{value:+g}" for name, value in zip(names, strengths, strict=True))
