"""A Hugging Face dataset: Parquet files and a card, which ``datasets.load_dataset`` opens."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from restyle.core.shown_text import visible
from restyle.pipeline.exporting.format import ExportFormat
from restyle.pipeline.exporting.rows import ExportedRows
from restyle.pipeline.ledger.datasets import parquet_options

PART_BYTES = 256 * 2**20
"""Size from which a file is closed and the next one begun."""

_CARD = """---
pretty_name: StyleGAN latents
size_categories:
- {category}
configs:
- config_name: default
  data_files: data/*.parquet
---

# StyleGAN latents

{count:,} latents of faces, inverted by ReStyle (Alaluf et al., ICCV 2021) with the model
`{model}`. Written by `restyle export --to hf`.

```python
from datasets import load_dataset

rows = load_dataset("{folder}", split="train").with_format("numpy")
w = rows[:8]["latent"].reshape(-1, {styles}, {dim})
```

| column | holds |
| --- | --- |
{columns}

Latents show what a person looks like: they are personal data wherever their photographs are. The
columns `source` and `image_id` say which photograph a row was made from; leave them out of what is
published.
"""
_KNOWN = {
    "image_id": "hash of the photograph's address",
    "revision": "rises when a photograph changed",
    "face": "number of the face in its photograph",
    "source": "the photograph",
    "steps": "steps of refinement",
    "quad": "corners of the crop in the photograph, in pixels",
    "detector": "detector that found the face",
    "model": "model and encoder",
}
_CATEGORIES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


class HuggingFace(ExportFormat):
    """Files ``data/part-NNNNN.parquet`` and ``README.md``."""

    name = "hf"
    title = "a Hugging Face dataset"
    usage = "datasets.load_dataset('{folder}', split='train')"

    def write(self, rows: ExportedRows, folder: Path) -> None:
        """As documented in :class:`ExportFormat`."""
        (folder / "data").mkdir()
        batches = rows.batches()
        batch = next(batches, None)
        number = 0
        while batch is not None:
            path = folder / "data" / f"part-{number:05d}.parquet"
            options = parquet_options(rows.schema)
            with path.open("wb") as file, pq.ParquetWriter(file, rows.schema, **options) as writer:
                while batch is not None and file.tell() < PART_BYTES:
                    writer.write_batch(batch)
                    batch = next(batches, None)
            number += 1
        (folder / "README.md").write_text(_card(rows), encoding="utf-8")


def _card(rows: ExportedRows) -> str:
    shape = rows.shape
    about = _KNOWN | {"latent": f"w+, float32, {shape[0]} styles of {shape[1]} numbers in a row"}
    columns = []
    for field in rows.schema:
        metric = (field.metadata or {}).get(b"definition", b"").decode() or "measure of the face"
        columns.append(f"| `{visible(field.name)}` | {visible(about.get(field.name, metric))} |")
    category = next((name for most, name in _CATEGORIES if rows.count < most), "n>1M")
    return _CARD.format(
        category=category,
        count=rows.count,
        model=visible(rows.model).replace("`", "'"),
        styles=shape[0],
        dim=shape[1],
        folder="FOLDER",
        columns="\n".join(columns),
    )
