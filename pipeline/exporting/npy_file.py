"""One NumPy file of all latents, beside a table of their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from restyle.pipeline.exporting.format import ExportFormat
from restyle.pipeline.exporting.rows import ExportedRows
from restyle.pipeline.results.forms.memory_map import LATENTS_FILE, ROWS_FILE


class NpyFile(ExportFormat):
    """``latents.npy`` [N, n_styles, style_dim] float32, and ``rows.parquet`` in the same order."""

    name = "npy"
    title = "one .npy with a table of its rows"
    usage = "restyle.map_latents('{folder}')"

    def write(self, rows: ExportedRows, folder: Path) -> None:
        """As documented in :class:`ExportFormat`."""
        columns = pa.schema([each for each in rows.schema if each.name != "latent"])
        with (
            (folder / LATENTS_FILE).open("wb") as file,
            pq.ParquetWriter(folder / ROWS_FILE, columns, compression="zstd") as writer,
        ):
            size = _write_header(file, rows)
            for batch in rows.batches():
                writer.write_batch(batch.select(columns.names))
                file.write(rows.latents(batch).data)
            file.seek(0)
            if _write_header(file, rows) != size:
                raise ValueError("the header of the array has grown")


def _write_header(file: object, rows: ExportedRows) -> int:
    """Write the header for the rows so far, which NumPy pads for any number; return its size."""
    described = {"descr": "<f4", "fortran_order": False, "shape": (rows.count, *rows.shape)}
    np.lib.format.write_array_header_1_0(file, described)  # type: ignore[arg-type]
    return file.tell()  # type: ignore[attr-defined, no-any-return]
