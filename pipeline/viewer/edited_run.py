"""The content of an output of edits for its page: every face at each strength."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from restyle.core.errors import RestyleError, SpecError
from restyle.pipeline.accounting.operation import own_settings
from restyle.pipeline.accounting.run_record import read_run
from restyle.pipeline.editing.operation import EDITING
from restyle.pipeline.editing.rows import FOLDER, change_column
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import file_of, open_parquet
from restyle.pipeline.report.report import common_folder
from restyle.pipeline.results.faces import FaceTable, read_faces
from restyle.pipeline.results.snapshot import read_snapshot
from restyle.pipeline.viewer.answers import Answer, whole_from
from restyle.pipeline.viewer.page import edits_page
from restyle.pipeline.viewer.pictures import Cache, Pictures, thumbnail

PAGE_ROWS = 24
_PATH = re.compile(r"/(edited|original|photograph)/(\d{1,9})/(\d{1,4})")

FloatArray = npt.NDArray[np.float64]
Query = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Table:
    """N faces with E edits each.

    Attributes:
        rows: key and source, [N].
        identity: [N, E].
        changes: [N, E] by attribute.
        files: name of each face's file, [N].
        starts: row of each face's first edit there, [N].
    """

    rows: pa.Table
    identity: FloatArray
    changes: dict[str, FloatArray]
    files: list[str]
    starts: list[int]


class EditedRun:
    """An output of edits.

    Args:
        out: the output, a path or any fsspec URI.

    Raises:
        SpecError: there is no such output.
        FatalError: files are damaged or cannot be read.
    """

    accepts_uploads = False

    def __init__(self, out: str) -> None:
        self._output = Output.at(out)
        settings = own_settings(self._output.storage, EDITING, "EDITS")
        if settings is None:
            raise SpecError(f"{self._output.storage.uri} holds no edits; correct OUT")
        self._settings = settings
        self._edits = len(settings.combinations)
        self._order = sorted(range(self._edits), key=settings.combinations.__getitem__)
        self._table = self._read()
        self._images: Cache[tuple[str, int, int], bytes] = Cache(len, 64 * 2**20)

    def _read(self) -> _Table:
        columns = ["image_id", "revision", "face", "source", "id_similarity"]
        attributes = [change_column(name) for name in self._settings.attributes]
        tables, files, starts = [], list[str](), list[int]()
        for each in self._output.sets():
            named = file_of(each, FOLDER)
            if named is None:
                continue
            with open_parquet(self._output.address, named[0]) as parquet:
                tables.append(parquet.read([*columns, *attributes], use_threads=False))
            count = tables[-1].num_rows // self._edits
            files += [named[0]] * count
            starts += [face * self._edits for face in range(count)]
        if not tables:
            empty = {name: pa.array([], pa.string()) for name in columns[:4]}
            return _Table(pa.table(empty), np.zeros((0, self._edits)), {}, [], [])
        table = pa.concat_tables(tables)

        def measured(name: str) -> FloatArray:
            values: FloatArray = table[name].to_numpy().astype(np.float64)
            return values.reshape(-1, self._edits)

        first = pa.array(np.arange(0, table.num_rows, self._edits))
        changes = {name: measured(change_column(name)) for name in self._settings.attributes}
        return _Table(
            table.select(columns[:4]).take(first).combine_chunks(),
            measured("id_similarity"),
            changes,
            files,
            starts,
        )

    def orders(self) -> dict[str, str]:
        """What the faces can be sorted by, with titles."""
        orders = {"": "order of the input", "source": "name"}
        orders["identity"] = "identity kept, least first"
        for name in self._table.changes:
            orders[name] = f"{name} changed, least first"
        return orders

    def page(self, query: Query) -> bytes:
        """The page with some faces as HTML.

        Args:
            query: ``name``, ``sort`` and ``page``.

        Raises:
            SpecError: a parameter is invalid.
        """
        numbers = self._selected(query.get("name", "")[:1000], query.get("sort", ""))
        pages = max(1, -(-len(numbers) // PAGE_ROWS))
        page = min(max(whole_from("page", query.get("page") or "0"), 0), pages - 1)
        shown = numbers[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
        storage, settings = self._output.storage, self._settings
        sources = self._table.rows["source"]
        ends = pc.min_max(sources)
        values = {
            "uri": storage.uri,
            "title": ", ".join(each.name for each in settings.directions),
            "settings": settings,
            "has_photos": settings.paste_back != "none",
            "has_originals": self._inversion is not None,
            "faces": [self._face(int(number)) for number in shown],
            "total": self._table.rows.num_rows,
            "found": len(numbers),
            "page": page,
            "pages": pages,
            "orders": self.orders(),
            "name": query.get("name", "")[:1000],
            "sort": query.get("sort", "") if query.get("sort", "") in self.orders() else "",
            "prefix": common_folder([ends["min"].as_py(), ends["max"].as_py()])
            if len(sources)
            else "",
        }
        return edits_page(values)

    def answer(self, path: str, query: Query) -> Answer | None:
        """Answer a request for a picture; None for an unknown path.

        Raises:
            SpecError: there is no such picture.
            FatalError: a file is missing or damaged.
        """
        del query
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        number, edit = int(match[2]), int(match[3])
        if number >= self._table.rows.num_rows or edit >= self._edits:
            raise SpecError(f"there is no edit {edit} of face {number}")
        if match[1] == "original":
            return Answer(self._original(number), "image/webp")
        image = self._image("image" if match[1] == "edited" else "photo", number, edit)
        if image is None:
            raise SpecError("this photograph has no picture; the column photo_problem says why")
        return Answer(image, "image/png")

    def upload(self, query: Query, data: bytes) -> Answer:
        """Refuse a photograph.

        Raises:
            SpecError: always.
        """
        raise SpecError("nothing is taken here")

    def close(self) -> None:
        """Do nothing; there are no child processes."""

    def _selected(self, name: str, sort: str) -> npt.NDArray[np.int64]:
        table = self._table
        kept = np.ones(table.rows.num_rows, bool)
        if name:
            kept = np.asarray(pc.match_substring(table.rows["source"], name, ignore_case=True))
        numbers = np.flatnonzero(kept)
        if sort == "source":
            by = np.asarray(pc.sort_indices(table.rows["source"].take(pa.array(numbers))))
        elif sort == "identity":
            by = np.argsort(_lowest(table.identity[numbers]), kind="stable")
        elif sort in table.changes:
            changes = table.changes[sort][numbers]
            by = np.argsort(_highest(changes) - _lowest(changes), kind="stable")
        else:
            by = np.arange(len(numbers))
        chosen: npt.NDArray[np.int64] = numbers[by]
        return chosen

    def _face(self, number: int) -> dict[str, Any]:
        row = self._table.rows.slice(number, 1).to_pylist()[0]
        return {
            "number": number,
            "source": row["source"],
            "face": row["face"],
            "edits": [
                {
                    "edit": edit,
                    "strengths": self._settings.combinations[edit],
                    "identity": _shown(self._table.identity[number, edit], ".2f"),
                    "changes": [
                        (name, _shown(values[number, edit], "+.2f"))
                        for name, values in self._table.changes.items()
                    ],
                }
                for edit in self._order
            ],
        }

    def _image(self, column: str, number: int, edit: int) -> bytes | None:
        name = self._table.files[number]
        with open_parquet(self._output.address, name) as parquet:
            if column not in parquet.schema_arrow.names:
                return None
            row = self._table.starts[number] + edit
            for group in range(parquet.metadata.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if row < rows:
                    read = parquet.read_row_group(group, [column], use_threads=False)
                    found: bytes | None = read[column][row].as_py()
                    return found
                row -= rows
        raise SpecError(f"there is no edit {edit} of face {number}")

    @cached_property
    def _inversion(self) -> tuple[FaceTable, Pictures] | None:
        """The faces that were edited, with their pictures; None if they cannot be read."""
        run = read_run(self._output.storage)
        with contextlib.suppress(OSError, RestyleError):
            if run is not None:
                snapshot = read_snapshot(run.asked.source)
                if snapshot.settings.reconstructions != "none":
                    return read_faces(snapshot), Pictures(snapshot.out)
        return None

    def _original(self, number: int) -> bytes:
        row = self._table.rows.slice(number, 1).to_pylist()[0]
        found = self._inversion
        at = -1 if found is None else found[0].find(row["image_id"], row["face"])
        if found is None or at < 0:
            raise SpecError("the inversion of this face cannot be read")
        pictures = found[1].of(found[0].place(at))
        if 0 not in pictures:
            raise SpecError("the inversion kept no input of this face")
        return thumbnail(pictures[0], "this picture")


def _lowest(values: FloatArray) -> FloatArray:
    """Smallest value of each face; infinite where none was measured, so that it sorts last."""
    lowest: FloatArray = np.where(np.isnan(values), np.inf, values).min(axis=1)
    return lowest


def _highest(values: FloatArray) -> FloatArray:
    highest: FloatArray = np.where(np.isnan(values), -np.inf, values).max(axis=1)
    return highest


def _shown(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "n/a"
