"""Editing as an operation: the settings, schemas, verification and report of its outputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from restyle.pipeline.accounting.operation import Operation
from restyle.pipeline.editing.rows import FOLDER, edit_schema
from restyle.pipeline.editing.settings import NAME, EditSettings
from restyle.pipeline.editing.summary import edit_sums
from restyle.pipeline.editing.verify import EditProof
from restyle.pipeline.ledger.datasets import REJECTS, latent_shape, reject_schema
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.records import MetricSums
from restyle.pipeline.storage.filesystem import Storage

if TYPE_CHECKING:
    import pyarrow as pa


class EditOperation(Operation[EditSettings]):
    """The operation that converts latents to edited faces."""

    name = "editing"
    holds = "edits"
    inputs = "photographs"
    settings_file = NAME
    datasets = (FOLDER, REJECTS)
    is_revised = False

    @property
    def settings_type(self) -> type[EditSettings]:
        """Type of the settings that determine the rows."""
        return EditSettings

    def schema(self, dataset: str, settings: EditSettings, found: pa.Schema) -> pa.Schema:
        """Return the schema of a dataset's files."""
        if dataset == REJECTS:
            return reject_schema(settings.fingerprint)
        return edit_schema(settings, latent_shape(found))

    def sums_of(self, rows: pa.Table, settings: EditSettings) -> dict[str, MetricSums]:
        """Return the sums of a unit's entry over its rows of ``edits``."""
        return edit_sums(rows, settings)

    def proof(
        self,
        storage: Storage,
        settings: EditSettings,
        done: Collection[str],
    ) -> EditProof:
        """Return the verifier of an output."""
        return EditProof(storage, settings)

    def write_report(self, output: Output, settings: EditSettings) -> str:
        """Write ``report.html`` and return its path."""
        # Imported late: only the report needs the template engine.
        from restyle.pipeline.editing.report import write_edit_report

        return write_edit_report(output, settings)


EDITING = EditOperation()
