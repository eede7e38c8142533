"""Withdrawal: units whose inputs were rejected become pending again.

An input of an inversion that is tried again gets a new revision. Where inputs have no revisions,
as faces that are edited, the unit itself is run again: its entry is removed, and then its files.
A run that is killed between the two leaves files that no entry names, which the next removes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from restyle.core.errors import RejectReason
from restyle.pipeline.accounting.compaction import tidy
from restyle.pipeline.accounting.status import bound_of
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.lock import driver_lock


@dataclass(frozen=True)
class Withdrawn:
    """What :func:`withdraw` did.

    Attributes:
        units: that are pending again.
        inputs: in these units.
    """

    units: int
    inputs: int


def withdraw(
    out: str, reasons: Collection[RejectReason], listener: Listener | None = None
) -> Withdrawn:
    """Make units pending again that hold rejects of these reasons; the next run does them.

    Compaction leaves such units out of packs, so that nothing else is done again with them.

    Args:
        out: an output without revisions, a path or any fsspec URI.
        reasons: of the rejects.
        listener: is told when another driver is waited for.

    Raises:
        SpecError: there is no output at this place, or a run is at work on it.
        FatalError: the ledger is damaged.
    """
    output = Output.at(out)
    storage = output.storage
    bound = bound_of(storage)
    with driver_lock(storage, listener or Listener()) as lock:
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
