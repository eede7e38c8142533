"""Snapshot of an output: the committed files, and each input's newest revision."""

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
class Snapshot:
    """State of an output according to its ledger at one moment.

    Attributes:
        output: the output.
        settings: settings of its rows.
        sets: all committed files, packs first.
        newest: table ``image_id``, ``revision`` with the newest revision of those inputs that have
            several.
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
        """The storage of the output."""
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
        """Return a mask of the rows of their inputs' newest revisions.

        Args:
            rows: table with the columns ``image_id`` and ``revision``.

        Returns:
            [rows] booleans.
        """
        if not self.newest.num_rows:
            return pa.repeat(True, rows.num_rows)
        at = pc.index_in(rows["image_id"], self.newest["image_id"])
        wanted = pc.take(self.newest["revision"], at)
        return pc.fill_null(pc.equal(rows["revision"], wanted), True)


def read_snapshot(out: str) -> Snapshot:
    """Read an output's ledger and manifest, without its datasets.

    Args:
        out: a path or any fsspec URI.

    Raises:
        SpecError: there is no output.
        FatalError: manifest or ledger are damaged or cannot be read.
    """
    output = Output.at(out)
    settings = settings_of(output.storage)
    check_units(output)
    return snapshot_of(output, settings)


def snapshot_of(output: Output, settings: ResolvedSettings) -> Snapshot:
    """Take a snapshot of an opened output, from the ledger and manifest that it has read.

    Raises:
        FatalError: manifest or ledger are damaged or cannot be read.
    """
    newest = newest_revisions(output.manifest, output.entries.units)
    table = pa.table(
        {
            "image_id": pa.array(newest, pa.string()),
            "revision": pa.array(newest.values(), pa.int16()),
        }
    )
    # In the order of the units, which is that of the input, whatever was compacted.
    sets = sorted(output.sets(), key=lambda files: files.units[0].unit)
    return Snapshot(output, settings, tuple(sets), table)
