"""The proof, from the files alone, that every input is accounted for exactly once."""

from __future__ import annotations

from restyle.pipeline.accounting.findings import Verification
from restyle.pipeline.accounting.status import bound_of
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.storage.filesystem import open_storage


def verify(out: str) -> Verification:
    """Read every file of an output and check it against manifest and ledger.

    One file is in memory at a time, and the keys of one unit or pack.

    Raises:
        SpecError: there is no output at this place.
        FatalError: manifest or ledger are damaged or cannot be read.
    """
    storage = open_storage(out)
    operation, settings = bound_of(storage)
    # Before the manifest, which only grows while a run is at work.
    entries = ledger.read_entries(storage)
    return operation.proof(storage, settings, entries.units).verification(entries)
