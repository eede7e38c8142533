"""Verify from the files alone that every planned face has every edit exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from restyle.pipeline.accounting.findings import columns, repeated
from restyle.pipeline.accounting.proof import Proof, SetFindings, Tables
from restyle.pipeline.editing.rows import FOLDER, edit_schema
from restyle.pipeline.editing.settings import EditSettings
from restyle.pipeline.ledger.datasets import REJECTS, latent_shape, reject_schema
from restyle.pipeline.ledger.entries import FileSet
from restyle.pipeline.ledger.manifest import Unit
from restyle.pipeline.planning.planned_inputs import read_revisions
from restyle.pipeline.storage.filesystem import Storage


class EditProof(Proof):
    """Verifier: every planned photograph has faces with each edit once, or one row in ``rejects``.

    Args:
        storage: storage of the output.
        settings: settings of the output.
    """

    datasets = (FOLDER, REJECTS)
    keys = ("image_id", "revision", "face", "edit")

    def __init__(self, storage: Storage, settings: EditSettings) -> None:
        super().__init__(storage, settings.fingerprint)
        self._settings = settings

    def schema(self, dataset: str, found: pa.Schema) -> pa.Schema:
        """As documented in :class:`Proof`."""
        if dataset == REJECTS:
            return reject_schema(self.fingerprint)
        return edit_schema(self._settings, latent_shape(found))

    def manifest_problems(self) -> Iterator[str]:
        """Yield a problem for each photograph that is planned twice."""
        ids, revisions = read_revisions(self.manifest)
        inputs = zip(ids.tolist(), revisions.tolist(), strict=True)
        yield from repeated("(image_id, revision)", inputs, "the manifest")

    def count(self, files: FileSet, units: Sequence[Unit], tables: Tables) -> SetFindings:
        """As documented in :class:`Proof`."""
        edits: dict[tuple[str, int, int], list[int]] = {}
        for image_id, revision, face, edit in _rows(tables.get(FOLDER), *self.keys):
            edits.setdefault((image_id, revision, face), []).append(edit)
        planned = {(image.image_id, image.revision) for unit in units for image in unit.images}
        edited = {(image_id, revision) for image_id, revision, _ in edits}
        rejected = list(_rows(tables.get(REJECTS), "image_id", "revision"))
        problems = [*self._edit_problems(edits), *repeated("photograph", rejected, REJECTS)]
        found = edited | set(rejected)
        for image_id, revision in sorted(edited & set(rejected)):
            problems.append(f"photograph {image_id} (revision {revision}) is edited and rejected")
        for image_id, revision in sorted(planned - found):
            problems.append(f"photograph {image_id} (revision {revision}) has no edits")
        for image_id, revision in sorted(found - planned):
            problems.append(f"photograph {image_id} (revision {revision}) is not one of this unit")
        records = files.units
        counted = (
            sum(record.images for record in records),
            files.faces,
            sum(sum(record.rejects.values()) for record in records),
        )
        counts = (len(planned), len(edits), len(rejected))
        if counted != counts:
            problems.append(
                f"the ledger counts (photographs, faces, rejects) {counted}, "
                f"the files hold {counts}"
            )
        return SetFindings(problems, len(found & planned), len(edits), len(rejected))

    def _edit_problems(self, edits: dict[tuple[str, int, int], list[int]]) -> Iterator[str]:
        every = list(range(len(self._settings.combinations)))
        for key, found in edits.items():
            if sorted(found) != every:
                yield (
                    f"(image_id, revision, face) {key} does not have each of {len(every)} edits "
                    "once"
                )


def _rows(table: pa.Table | None, *names: str) -> Iterator[Any]:
    """Return the rows of some columns; empty if there is no file."""
    return iter(()) if table is None else columns(table, *names)
