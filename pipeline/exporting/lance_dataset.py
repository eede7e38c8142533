"""A Lance dataset with a vector index over its latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from restyle.pipeline.exporting.format import ExportFormat
from restyle.pipeline.exporting.rows import ExportedRows

_QUANTISED_FROM = 10_000
"""Rows from which the index has codes instead of whole vectors; fewer are searched as fast."""
_ROWS_PER_PARTITION = 4096
_NUMBERS_PER_CODE = 16


class Lance(ExportFormat):
    """A Lance dataset whose rows have the output's order."""

    name = "lance"
    title = "a Lance dataset with a vector index"
    module = "lance"
    extra = "lance"
    usage = "lance.dataset('{folder}')"

    def write(self, rows: ExportedRows, folder: Path) -> None:
        """As documented in :class:`ExportFormat`."""
        import lance

        # A missing dataset is created; the library warns of that in the mode "overwrite" alone.
        dataset = lance.write_dataset(rows.stream(), str(folder), mode="create")
        dataset.create_index("latent", metric="l2", **_index(rows))


def _index(rows: ExportedRows) -> dict[str, Any]:
    partitions = max(1, rows.count // _ROWS_PER_PARTITION)
    if rows.count < _QUANTISED_FROM:
        return {"index_type": "IVF_FLAT", "num_partitions": partitions}
    size = rows.shape[0] * rows.shape[1]
    codes = max(1, size // _NUMBERS_PER_CODE)
    # The library divides a vector into parts of equal length.
    while size % codes:
        codes -= 1
    return {"index_type": "IVF_PQ", "num_partitions": partitions, "num_sub_vectors": codes}
