"""Withdrawal: make units with rejected inputs pending again.

An inversion retries an input under a new revision. An operation whose inputs have no revisions,
such as editing, runs the whole unit again: withdrawal removes the unit's entry first, then its
files. If it is killed between the two steps, the next run removes the files without an entry.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from restyle.core.errors import RejectReason
from restyle.pipeline.accounting.compaction import tidy
from restyle.pipeline.accounting.status import bound_of
from restyle.pipeline.forgetting.tombstone import check_complete
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.lock import driver_lock


@dataclass(frozen=True)
class Withdrawn:
    """Result of :func:`withdraw`.

    Attributes:
        units: Number of units that became pending.
        inputs: Number of inputs in these units.
    """

    units: int
    inputs: int


def withdraw(
    out: str, reasons: Collection[RejectReason], listener: Listener | None = None
) -> Withdrawn:
    """Make every unit with a reject of the given reasons pending; the next run processes it again.

    Compaction keeps such units out of packs, so that no other unit has to run again with them.

    Args:
        out: an output whose operation has no revisions, a path or any fsspec URI.
        reasons: reject reasons to retry.
        listener: receives a note while the lock of another driver is awaited.

    Raises:
        SpecError: there is no output at ``out``, or another run is using it.
        FatalError: the ledger is damaged.
    """
    output = Output.at(out)
    storage = output.storage
    bound = bound_of(storage)
    with driver_lock(storage, listener or Listener()) as lock:
        check_complete(storage, output.names)
        tidy(output, *bound)
        found = [
            files
            for files in output.sets()
            if not files.pack and not files.units[0].rejects.keys().isdisjoint(map(str, reasons))
        ]
        for files in found:
            lock.check()
            ledger.remove(storage, files)
            for file in files.files:
                storage.delete(file.name)
    return Withdrawn(len(found), sum(files.units[0].images for files in found))
