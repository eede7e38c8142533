"""What stands now in an output: committed files alone, and in them the newest revision's rows."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from restyle.pipeline.accounting.findings import check_units
from restyle.pipeline.accounting.status import settings_of
from restyle.pipeline.ledger.entries import FileSet, WrittenFile
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.revisions import newest_revisions
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.storage.filesystem import Storage


@dataclass(frozen=True, eq=False)
class Current:
    """An output as its ledger tells it at one moment.

    Attributes:
        output: where.
        settings: what its rows are made with.
        sets: all committed files, packs first.
        newest: rows ``image_id``, ``revision`` of those inputs alone that were done more than
            once, with the revision that stands now.
    """

    output: Output
    settings: ResolvedSettings
    sets: tuple[FileSet, ...]
    newest: pa.Table

    @property
    def out(self) -> str:
        """The path or URI of the output."""
        return self.output.address

    @property
    def storage(self) -> Storage:
        """Where the output is."""
        return self.output.storage

    def files(self, dataset: str) -> list[WrittenFile]:
        """The committed files of a dataset that have rows."""
        return [
            file
            for files in self.sets
            for file in files.files
            if file.rows and file.name.startswith(f"{dataset}/")
        ]

    def stands(self, rows: pa.Table) -> pa.ChunkedArray | pa.Array:
        """Which rows are of the revision that stands now.

        Args:
            rows: with the columns ``image_id`` and ``revision``.

        Returns:
            One boolean for each row.
        """
        if not self.newest.num_rows:
            return pa.repeat(True, rows.num_rows)
        at = pc.index_in(rows["image_id"], self.newest["image_id"])
        wanted = pc.take(self.newest["revision"], at)
        return pc.fill_null(pc.equal(rows["revision"], wanted), True)


def read_current(out: str) -> Current:
    """Look at an output's ledger and manifest; no dataset is read.

    Args:
        out: a path or any fsspec URI.

    Raises:
        SpecError: there is no output at this place.
        FatalError: manifest or ledger are damaged or cannot be read.
    """
    output = Output.at(out)
    settings = settings_of(output.storage)
    check_units(output)
    newest = newest_revisions(output.manifest, output.entries.units)
    table = pa.table(
        {
            "image_id": pa.array(newest, pa.string()),
            "revision": pa.array(newest.values(), pa.int16()),
        }
    )
    # In the order of the units, which is that of the input, whatever was compacted.
    sets = sorted(output.sets(), key=lambda files: files.units[0].unit)
    return Current(output, settings, tuple(sets), table)
