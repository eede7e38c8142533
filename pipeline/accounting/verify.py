"""Verify from the files alone that every input is accounted for exactly once."""

from __future__ import annotations

from restyle.pipeline.accounting.findings import Verification
from restyle.pipeline.accounting.status import bound_of
from restyle.pipeline.forgetting.tombstone import JOURNAL
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.storage.filesystem import open_storage


def verify(out: str) -> Verification:
    """Read every file of an output and check it against the manifest and the ledger.

    Memory holds one file at a time, plus the key columns of one unit or pack.

    Args:
        out: the output, a path or any fsspec URI.

    Raises:
        SpecError: there is no output at ``out``.
        FatalError: the manifest or the ledger is damaged or cannot be read.
    """
    storage = open_storage(out)
    operation, settings = bound_of(storage)
    # Read before the manifest: a concurrent run only adds to it, so every entry finds its plan.
    entries = ledger.read_entries(storage)
    found = operation.proof(storage, settings, entries.units).verification(entries)
    if JOURNAL in storage.sizes(ledger.FOLDER, "forgetting"):
        found.problems.append(
            "inputs are being forgotten, which is not complete; finish it with "
            f"`restyle forget {storage.uri} --yes`"
        )
    return found
