"""The rows of an export: their columns, and a stream of batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from restyle.core.errors import SpecError
from restyle.pipeline.ledger.datasets import LATENTS, latent_shape, metric_columns
from restyle.pipeline.results.forms.arrow import latent_reader
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.snapshot import Snapshot


@dataclass(eq=False)
class ExportedRows:
    """The current rows of an output, which can be read once.

    Attributes:
        reader: batches of about 16 MiB; ``latent`` is the last column.
        shape: of a latent: (n_styles, style_dim).
        metrics: columns of metrics.
        model: name of the model and its encoder.
        fingerprint: of the output's settings.
        count: number of rows that were read so far.
    """

    reader: pa.RecordBatchReader
    shape: tuple[int, int]
    metrics: list[str]
    model: str
    fingerprint: str
    count: int = field(default=0)

    @classmethod
    def of(cls, snapshot: Snapshot) -> ExportedRows:
        """The rows of an output.

        Raises:
            SpecError: there are none.
            FatalError: a file is missing or damaged.
        """
        if not snapshot.files(LATENTS):
            raise SpecError(f"{snapshot.storage.uri} holds no faces to export yet")
        reader = latent_reader(snapshot.out)
        settings = snapshot.settings
        return cls(
            reader,
            latent_shape(reader.schema),
            metric_columns(reader.schema),
            settings.model,
            settings.fingerprint,
        )

    @property
    def schema(self) -> pa.Schema:
        """Columns of the batches."""
        return self.reader.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, and count them."""
        for batch in self.reader:
            self.count += batch.num_rows
            yield batch

    def stream(self) -> pa.RecordBatchReader:
        """The rows as Arrow's libraries take them, counted while they are read."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches())

    def latents(self, batch: pa.RecordBatch) -> FloatArray:
        """Latents [n, n_styles, style_dim] of a batch, without a copy."""
        values: FloatArray = batch.column("latent").flatten().to_numpy()
        return values.reshape(-1, *self.shape)
