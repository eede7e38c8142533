"""``report.html`` of an output of edits: the effect of each edit, and example faces."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from restyle.core.errors import RestyleError
from restyle.pipeline.accounting.run_record import read_run
from restyle.pipeline.editing.rows import FOLDER, change_column
from restyle.pipeline.editing.settings import EditSettings
from restyle.pipeline.editing.summary import EditSummary, summarise
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import HasFiles, file_of, open_parquet, spread
from restyle.pipeline.report.curves import text
from restyle.pipeline.report.gallery import Key, read_gallery
from restyle.pipeline.report.html import render_page
from restyle.pipeline.report.rejects import REASONS, read_rejects, reasons_of
from restyle.pipeline.report.report import (
    Figure,
    common_folder,
    facts_of,
    figures_of,
    finished,
    notice,
    title_of_data,
)
from restyle.pipeline.results.faces import read_faces
from restyle.pipeline.results.snapshot import read_snapshot
from restyle.pipeline.sources.output_names import REPORT_FILE

MAX_FACES = 40
"""Maximum number of faces shown."""

MAX_EDITS = 9
"""Maximum number of edits shown per face, evenly spaced from the weakest to the strongest."""


@dataclass(frozen=True)
class EditedPicture:
    """One edit of a face.

    Attributes:
        strengths: strength along each direction.
        image: data URI of the picture.
        identity: cosine similarity of the face embeddings of the edit and the unedited
            reconstruction; None if not measured.
        changes: change of each attribute against the unedited reconstruction; None where no face
            was found.
    """

    strengths: tuple[float, ...]
    image: str
    identity: float | None
    changes: tuple[tuple[str, float | None], ...] = ()


@dataclass(frozen=True)
class EditedStrip:
    """One face with its edits, weakest first.

    Attributes:
        key: of the face.
        original: data URI of the aligned input; empty if it cannot be read.
    """

    source: str
    key: Key
    pictures: tuple[EditedPicture, ...]
    original: str = ""

    @property
    def face(self) -> int:
        """Number of the face in its photograph."""
        return self.key[2]


@dataclass(frozen=True)
class EditRow:
    """Average effect of an edit: a row of the table."""

    strengths: tuple[str, ...]
    identity: str
    changes: tuple[str, ...]


def write_edit_report(output: Output, settings: EditSettings) -> str:
    """Write ``report.html`` into an output of edits, from the units committed so far.

    Args:
        output: the output.
        settings: settings of the output.

    Returns:
        The path or URI of the report.

    Raises:
        FatalError: a file of the output is damaged.
        TransientError: the storage failed in a way that may be temporary.
    """
    storage, out = output.storage, output.address
    files = output.sets()
    records = [record for each in files for record in each.units]
    summary, run = summarise(records, settings), read_run(storage)
    strips = list(read_strips(out, files, settings))
    originals = _originals(run.asked.source if run else "", [strip.key for strip in strips])
    strips = [replace(strip, original=originals.get(strip.key, "")) for strip in strips]
    rejects = read_rejects(out, files)
    sources = [strip.source for strip in strips] + [reject.source for reject in rejects]
    reasons = reasons_of(records)
    values = {
        "uri": storage.uri,
        "title": title_of_data(run, storage.uri),
        "settings": settings,
        "figures": _figures(figures_of(records), settings),
        "facts": facts_of(records, run),
        "rows": _rows(settings, summary),
        "attributes": list(summary.changes),
        "steadiness": summary.steadiness,
        "without_photo": summary.without_photo,
        "strips": strips,
        "faces": summary.faces,
        "rejects": rejects,
        "reject_total": sum(reasons.values()),
        "reasons": reasons.most_common(),
        "reason_names": REASONS,
        "prefix": common_folder(sources),
        "run": run.model_dump_json(indent=2) if run else "",
        "notice": notice(run),
        "finished": finished(run),
    }
    storage.write(REPORT_FILE, render_page("edit_report.html.j2", values, number=text))
    return storage.shown(REPORT_FILE)


def read_strips(
    out: str, sets: Sequence[HasFiles], settings: EditSettings, most: int = MAX_FACES
) -> Iterator[EditedStrip]:
    """Yield faces spread evenly over the units, each with its edits, weakest first.

    Args:
        out: path or any fsspec URI of the output.
        sets: committed file sets.
        settings: settings of the output.
        most: maximum number of faces.
    """
    names = [file[0] for each in sets if (file := file_of(each, FOLDER)) is not None]
    chosen = spread(names, most)
    order = sorted(range(len(settings.combinations)), key=settings.combinations.__getitem__)
    ends = np.linspace(0, len(order) - 1, min(len(order), MAX_EDITS)).round().astype(int)
    shown = [order[index] for index in ends.tolist()]
    left = most
    for number, name in enumerate(chosen):
        # Each file gets an equal share of the faces still missing, so later files use what earlier
        # ones lack.
        for strip in _strips(out, name, settings, shown, -(-left // (len(chosen) - number))):
            left -= 1
            yield strip


def _strips(
    out: str, name: str, settings: EditSettings, shown: Sequence[int], most: int
) -> Iterator[EditedStrip]:
    changes = [change_column(name) for name in settings.attributes]
    columns = ["image_id", "revision", "face", "source", "edit", "id_similarity", "image", *changes]
    edits = len(settings.combinations)
    with open_parquet(out, name) as parquet:
        for batch in parquet.iter_batches(edits, columns=columns, use_threads=False):
            if most <= 0:
                return
            rows = {row["edit"]: row for row in batch.to_pylist()}
            if len(rows) < edits:
                return
            most -= 1
            first = rows[shown[0]]
            yield EditedStrip(
                first["source"],
                (first["image_id"], first["revision"], first["face"]),
                tuple(_picture(rows[edit], settings) for edit in shown),
            )


def _picture(row: Mapping[str, Any], settings: EditSettings) -> EditedPicture:
    return EditedPicture(
        settings.combinations[row["edit"]],
        "data:image/png;base64," + base64.b64encode(row["image"]).decode(),
        row["id_similarity"],
        tuple((name, row[change_column(name)]) for name in settings.attributes),
    )


def _originals(inversion: str, keys: Sequence[Key]) -> dict[Key, str]:
    """Data URIs of aligned inputs, as far as the inversion can be read and has kept them."""
    found: dict[Key, str] = {}
    with contextlib.suppress(OSError, RestyleError):
        snapshot = read_snapshot(inversion)
        faces = read_faces(snapshot)
        numbers = [faces.find(image_id, face) for image_id, _, face in keys]
        places = [faces.place(number) for number in numbers if number >= 0]
        gallery = read_gallery(snapshot.out, [], special=places)
        found = {key: strip.input.image for key, strip in gallery.special.items() if strip.input}
    return {key: found[key] for key in keys if key in found}


def _figures(figures: list[Figure], settings: EditSettings) -> list[Figure]:
    photographs, *others = figures
    label = "photograph" if photographs.value == "1" else "photographs"
    count = len(settings.combinations)
    each = Figure(f"{count:,}", "edit of each face" if count == 1 else "edits of each face")
    return [Figure(photographs.value, label), others[0], each, *others[1:]]


def _rows(settings: EditSettings, summary: EditSummary) -> list[EditRow]:
    if not summary.faces:
        return []
    order = sorted(range(len(settings.combinations)), key=settings.combinations.__getitem__)
    return [
        EditRow(
            tuple(f"{strength:+g}" for strength in settings.combinations[edit]),
            _number(float(summary.identity[edit]), ".3f"),
            tuple(_number(float(values[edit]), "+.3f") for values in summary.changes.values()),
        )
        for edit in order
    ]


def _number(value: float, form: str) -> str:
    return format(value, form) if value == value else "not measured"
