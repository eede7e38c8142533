"""A Delta table."""

from __future__ import annotations

from pathlib import Path

from restyle.pipeline.exporting.format import ExportFormat
from restyle.pipeline.exporting.rows import ExportedRows


class DeltaTable(ExportFormat):
    """A Delta table; its rows have no order."""

    name = "delta"
    title = "a Delta table"
    module = "deltalake"
    extra = "delta"
    usage = "deltalake.DeltaTable('{folder}').to_pyarrow_table()"

    def write(self, rows: ExportedRows, folder: Path) -> None:
        """As documented in :class:`ExportFormat`."""
        import deltalake

        deltalake.write_deltalake(str(folder), rows.stream())
