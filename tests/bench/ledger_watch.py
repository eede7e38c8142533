"""The ledger of a job, watched while it runs: what is in work, and how often it was begun.

What is computed again shows in the ledger's own count: ``_ledger/try-<unit>.json`` is written when
a unit's inversion begins, and removed after the unit's commit.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.running_job import entries, tries

LOOK_SECONDS = 0.03
"""Between two looks; a unit is in work for much longer."""


@dataclass
class LedgerWatch:
    """What was seen of a job's ledger; a thread keeps it up to date.

    Attributes:
        tries: highest count of each unit.
        written: when each entry was first seen to be written.
        at_stake: for each unit, kills of something that computes at which it was in work.
    """

    out: Path
    tries: Counter[str] = field(default_factory=Counter)
    written: dict[str, int] = field(default_factory=dict)
    at_stake: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()
        self.look()

    def look(self) -> set[str]:
        """Units in work now."""
        now = tries(self.out)
        for unit, count in now.items():
            self.tries[unit] = max(self.tries[unit], count)
        done = entries(self.out, besides=self.written)
        self.written |= done
        return {unit for unit in now if f"unit-{unit}.json" not in self.written}

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            self.look()
