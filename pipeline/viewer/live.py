"""What a job that still runs has done since the page was made, and its newest faces."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from restyle.core.errors import SpecError
from restyle.pipeline.accounting.run_record import read_run
from restyle.pipeline.accounting.run_state import run_state
from restyle.pipeline.accounting.summary import Tally
from restyle.pipeline.ledger.datasets import LATENTS, REJECTS
from restyle.pipeline.ledger.entries import FileSet, UnitRecord, read_records
from restyle.pipeline.ledger.manifest import plans_among
from restyle.pipeline.ledger.output import Manifest, Output
from restyle.pipeline.ledger.parquet_files import file_of, open_parquet
from restyle.pipeline.report.rejects import REASONS
from restyle.pipeline.results.faces import Place
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.storage.claim import read_claims
from restyle.pipeline.viewer.pictures import Pictures

Json = dict[str, Any]

NEWEST = 12
"""Faces that are shown, and as many rejects."""

_LEAST_SECONDS = 1.0
"""Within which two requests get the same answer."""


@dataclass(frozen=True, eq=False)
class _Newest:
    """A face that was committed lately."""

    place: Place
    source: str


class LiveRun:
    """Follows a run by its ledger. Thread-safe.

    Each look lists the ledger and reads the entries that are new, however many there are in all.

    Args:
        snapshot: what the page shows.
        pictures: of the same output.
    """

    def __init__(self, snapshot: Snapshot, pictures: Pictures) -> None:
        self._pictures = pictures
        self._output = Output(snapshot.storage)
        self._manifest = snapshot.output.manifest
        self._tally = Tally()
        self._done: set[str] = set()
        self._faces: deque[_Newest] = deque(maxlen=NEWEST)
        self._rejects: deque[Json] = deque(maxlen=NEWEST)
        self._guard = threading.Lock()
        self._answer: Json = {}
        self._looked = 0.0
        self._take([files for files in snapshot.sets if not files.pack][-1:])
        for files in snapshot.sets:
            for record in files.units:
                self._count(record)
        self._shown = self._tally.faces

    def now(self) -> Json:
        """What the run has done by now.

        Raises:
            FatalError: the output cannot be read.
        """
        with self._guard:
            if not self._answer or time.monotonic() - self._looked >= _LEAST_SECONDS:
                self._answer = self._look()
                self._looked = time.monotonic()
            return self._answer

    def picture(self, key: str) -> bytes:
        """The last picture of one of the newest faces.

        Args:
            key: ``IMAGE_ID/FACE``.

        Raises:
            SpecError: it is none of them any longer, or has no picture.
            FatalError: a file is missing or damaged.
        """
        with self._guard:
            places = [face.place for face in self._faces if face.place.key == key]
        pictures = self._pictures.of(places[0]) if places else {}
        if not pictures:
            raise SpecError("this face is not among the newest")
        return pictures[max(pictures)]

    def _look(self) -> Json:
        storage, output = self._output.storage, self._output
        # The claims before the record, which a run that ends meanwhile has written.
        claims, record = read_claims(storage), read_run(storage)
        output.look()
        if plans_among(output.names) != self._manifest.plans:
            self._manifest = Manifest.read(storage)
        new = sorted(output.entries.units - self._done)
        records = read_records(storage, new, output.entries)
        self._take([FileSet((each,), each.files) for each in records])
        for each in records:
            self._count(each)
        inputs = sum(unit.images for unit in self._manifest.units)
        pending = inputs - self._tally.images
        state = None if record is None else run_state(record, claims, pending)
        return {
            "state": "" if state is None else state.state,
            "inputs": inputs,
            "done": self._tally.images,
            "faces": self._tally.faces,
            "new": self._tally.faces - self._shown,
            "rate": None if state is None else state.images_per_second,
            "seconds_left": None if state is None else state.seconds_left,
            "rejected": self._tally.rejected,
            "reasons": [
                {"title": REASONS.get(name, name), "count": count}
                for name, count in sorted(self._tally.rejects.items(), key=lambda each: -each[1])
            ],
            "rejects": list(self._rejects),
            "newest": [{"key": face.place.key, "source": face.source} for face in self._faces],
        }

    def _count(self, record: UnitRecord) -> None:
        self._done.add(record.unit)
        self._tally.add(record)

    def _take(self, sets: Sequence[FileSet]) -> None:
        """Read the last faces and rejects of units, so that the newest come first."""
        for files in sets[-NEWEST:]:
            for row, number in self._last(
                files, LATENTS, ["image_id", "revision", "face", "source"]
            ):
                place = Place(files, number, row["image_id"], row["revision"], row["face"])
                self._faces.appendleft(_Newest(place, row["source"]))
            for row, _ in self._last(files, REJECTS, ["source", "reason", "message"]):
                title = REASONS.get(row["reason"], row["reason"])
                self._rejects.appendleft({**row, "title": title})

    def _last(self, files: FileSet, dataset: str, columns: list[str]) -> list[tuple[Json, int]]:
        """The last rows of a unit in a dataset, and their numbers there."""
        named = file_of(files, dataset)
        if named is None:
            return []
        with open_parquet(self._output.address, named[0]) as parquet:
            table = parquet.read(columns, use_threads=False)
        start = max(0, table.num_rows - NEWEST)
        rows = table.slice(start).to_pylist()
        return [(row, start + number) for number, row in enumerate(rows)]
