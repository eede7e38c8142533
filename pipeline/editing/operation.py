"""Editing as an operation: what its outputs hold."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from restyle.pipeline.accounting.operation import Operation
from restyle.pipeline.editing.rows import FOLDER, edit_schema
from restyle.pipeline.editing.settings import NAME, EditSettings
from restyle.pipeline.editing.verify import EditProof
from restyle.pipeline.ledger.datasets import REJECTS, latent_shape, reject_schema
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.storage.filesystem import Storage

if TYPE_CHECKING:
    import pyarrow as pa


class EditOperation(Operation[EditSettings]):
    """Latents to edited faces."""

    name = "editing"
    holds = "edits"
    inputs = "photographs"
    settings_file = NAME
    datasets = (FOLDER, REJECTS)
    is_revised = False

    @property
    def settings_type(self) -> type[EditSettings]:
        """What shapes the rows."""
        return EditSettings

    def schema(self, dataset: str, settings: EditSettings, found: pa.Schema) -> pa.Schema:
        """The schema of a dataset's files."""
        if dataset == REJECTS:
            return reject_schema(settings.fingerprint)
        return edit_schema(settings, latent_shape(found))

    def proof(
        self,
        storage: Storage,
        settings: EditSettings,
        done: Collection[str],
    ) -> EditProof:
        """What checks an output."""
        return EditProof(storage, settings)

    def write_report(self, output: Output, settings: EditSettings) -> str:
        """Write ``report.html``; where it is."""
        # Here, because templates are not needed before.
        from restyle.pipeline.editing.report import write_edit_report

        return write_edit_report(output, settings)


EDITING = EditOperation()
