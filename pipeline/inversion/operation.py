"""Inversion as an operation: the settings, schemas, verification and report of its outputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from restyle.pipeline.accounting.operation import Operation
from restyle.pipeline.inversion.verify import InversionProof
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import DATASETS, datasets_of, latent_shape, schema
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.storage.filesystem import Storage

if TYPE_CHECKING:
    import pyarrow as pa


class InversionOperation(Operation[ResolvedSettings]):
    """The operation that converts photographs to latents."""

    name = "inversion"
    holds = "an inversion"
    settings_file = ledger.SETTINGS_FILE
    datasets = DATASETS
    is_revised = True

    @property
    def settings_type(self) -> type[ResolvedSettings]:
        """Type of the settings that determine the rows."""
        return ResolvedSettings

    def datasets_of(self, settings: ResolvedSettings) -> tuple[str, ...]:
        """Return the datasets of an output with these settings."""
        return datasets_of(settings)

    def schema(self, dataset: str, settings: ResolvedSettings, found: pa.Schema) -> pa.Schema:
        """Return the schema of a dataset's files."""
        return schema(dataset, settings, latent_shape(found))

    def proof(
        self, storage: Storage, settings: ResolvedSettings, done: Collection[str]
    ) -> InversionProof:
        """Return the verifier of an output."""
        return InversionProof(storage, settings, done)

    def write_report(self, output: Output, settings: ResolvedSettings) -> str:
        """Write ``report.html`` and return its path."""
        # Imported late: only the report needs the template engine.
        from restyle.pipeline.report.report import write_report

        return write_report(output, settings)


INVERSION = InversionOperation()
