"""WebDataset shards: tar files with a latent and its columns for each face."""

from __future__ import annotations

from pathlib import Path

from restyle.pipeline.exporting.format import ExportFormat
from restyle.pipeline.exporting.rows import ExportedRows

_MOST_ROWS = 8192
_MOST_BYTES = 256 * 2**20


class WebDataset(ExportFormat):
    """Shards ``latents-NNNNNN.tar`` with ``ID-REVISION-FACE.npy`` and ``.json`` for each face."""

    name = "webdataset"
    title = "WebDataset shards"
    module = "webdataset"
    extra = "webdataset"
    usage = "webdataset.WebDataset('{folder}/latents-000000.tar').decode()"

    def write(self, rows: ExportedRows, folder: Path) -> None:
        """As documented in :class:`ExportFormat`."""
        import webdataset

        pattern = f"{folder}/latents-%06d.tar".replace("%", "%%").replace("%%06d", "%06d")
        with webdataset.ShardWriter(
            pattern, maxcount=_MOST_ROWS, maxsize=_MOST_BYTES, verbose=0, mtime=0
        ) as shards:
            for batch in rows.batches():
                columns = batch.drop_columns(["latent"]).to_pylist()
                for row, latent in zip(columns, rows.latents(batch), strict=True):
                    key = f"{row['image_id']}-{row['revision']}-{row['face']}"
                    shards.write({"__key__": key, "npy": latent, "json": row})
