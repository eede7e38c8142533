"""The content of a finished run for the page, as JSON, for server and export."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from restyle.core.errors import SpecError
from restyle.core.metrics.registry import find_metric, title_of
from restyle.core.shown_text import plural
from restyle.pipeline.accounting.run_record import read_run
from restyle.pipeline.accounting.run_state import run_state
from restyle.pipeline.accounting.summary import summarise
from restyle.pipeline.report.change_maps import TOTAL, Change, scale_of
from restyle.pipeline.report.rejects import REASONS
from restyle.pipeline.report.report import common_folder
from restyle.pipeline.results.faces import FaceTable, IntArray, Place, Selection, read_faces
from restyle.pipeline.results.snapshot import read_snapshot
from restyle.pipeline.storage.claim import read_claims
from restyle.pipeline.viewer.answers import whole_from
from restyle.pipeline.viewer.live import LiveRun
from restyle.pipeline.viewer.pictures import Kind, Pictures, maps_of
from restyle.pipeline.viewer.sliders.edits import Edits
from restyle.pipeline.viewer.sliders.run_face import Photographs, RunFace
from restyle.pipeline.viewer.sliders.uploads import Uploads
from restyle.pipeline.viewer.steps import RejectTable, Steps

PAGE_ROWS = 60
DIFFERENCE = "difference:"
"""Prefix of a metric to sort by its difference: another run's value minus this one's."""

Json = dict[str, Any]


class ViewedRun:
    """One run.

    Args:
        out: the output, a path or any fsspec URI.
        model: to render edits with; the run's own when None.
        directions: folders of further directions than the model's, or their files.

    Attributes:
        faces: table of all faces that were there when the page was made.
        uri: of the output, without secrets.
        edits: renders edits.
        uploads: inverts photographs that are dropped on the page.

    Raises:
        SpecError: there is no such output or model.
        FatalError: files are damaged or cannot be read.
    """

    def __init__(self, out: str, model: str | None = None, directions: Sequence[str] = ()) -> None:
        self._out = out
        self._current = read_snapshot(out)
        self._is_running = False
        self._live: LiveRun | None = None
        self.uri = self._current.storage.uri
        self.faces: FaceTable = read_faces(self._current)
        self._pictures = Pictures(out)
        self._steps = Steps(out)
        self._guard = threading.Lock()
        self._partners: dict[int, tuple[FaceTable, IntArray]] = {}
        self._model = model
        self.edits = Edits(self._current, model, directions)
        self.uploads = Uploads(self._current.settings, self.edits)
        self._photographs = Photographs(self._current)

    def refresh(self) -> None:
        """Take in what was committed since, if the run still worked when the page was made.

        Faces get other numbers; see :meth:`number_at`.

        Raises:
            FatalError: files are damaged or cannot be read.
        """
        if not self._is_running:
            return
        current = read_snapshot(self._out)
        faces = read_faces(current)
        with self._guard:
            self._current, self.faces, self._live = current, faces, None
            self.__dict__.pop("rejects", None)

    @property
    def live(self) -> LiveRun:
        """What the run has done since the page was made."""
        with self._guard:
            if self._live is None:
                self._live = LiveRun(self._current, self._pictures)
            return self._live

    @cached_property
    def rejects(self) -> RejectTable:
        """Table of the rejects."""
        return RejectTable(self._current)

    def about(self) -> Json:
        """Description of the run for the page's head and controls."""
        settings = self._current.settings
        return {
            "uri": self.uri,
            "name": self.uri.rstrip("/").rpartition("/")[2] or self.uri,
            "model": settings.model,
            "prefix": common_folder(self.faces.ends()),
            "steps": settings.rows,
            "polish": settings.polish,
            "names": {
                step: name
                for step in range(1, settings.rows + 1)
                if (name := settings.step_name(step))
            },
            "kept": settings.reconstructions,
            "align": settings.align,
            "faces": len(self.faces),
            "rejects": len(self.rejects),
            "reasons": [
                {"name": name, "title": REASONS.get(name, name), "count": count}
                for name, count in self.rejects.reasons().items()
            ],
            "metrics": [
                {
                    "name": name,
                    "title": title_of(name),
                    "lower": (metric := find_metric(name)) is not None and metric.better == "lower",
                    "low": _bound(values, np.nanmin),
                    "high": _bound(values, np.nanmax),
                }
                for name, values in self.faces.metrics.items()
            ],
            "directions": self.edits.about(),
            "edit_reason": self.edits.reason,
            "edit_model": self._model or "",
            "upload_reason": self.uploads.reason,
            "state": self._state(),
            "is_running": self._is_running,
        }

    def _state(self) -> str:
        """A sentence about a run that works or ended before its end; empty for one that is done."""
        storage = self._current.storage
        self._is_running = False
        # The claims before the record, which a run that ends meanwhile has written.
        claims, record = read_claims(storage), read_run(storage)
        if record is None:
            return ""
        summary = summarise(self._current.output)
        done = f"{summary.done_images:,} of {plural(summary.images, 'input')} were done"
        state = run_state(record, claims, summary.pending_images).state
        if state == "running":
            self._is_running = True
            return f"This run is still running. {done} when this page was made."
        if state == "complete" and not summary.pending_images:
            return ""
        words = {"died": "died", "failed": "failed", "interrupted": "was interrupted"}
        what = f"This run {words[state]}" if state in words else "This run is not finished"
        return f"{what}: {done}. The same command again continues."

    def page(
        self, wanted: Selection, page: int, other: ViewedRun | None = None, most: int = PAGE_ROWS
    ) -> Json:
        """One page of faces.

        Args:
            wanted: filter and order; may sort by :data:`DIFFERENCE` with ``other``.
            page: index from 0, limited to the last page.
            other: a run to compare with.
            most: faces per page.
        """
        by = None
        if other is not None and wanted.sort.startswith(DIFFERENCE):
            metric = wanted.sort.removeprefix(DIFFERENCE)
            by = self._differences(other, metric)
            wanted = replace(wanted, sort="")
        numbers = self.faces.select(wanted, by)
        pages = max(1, -(-len(numbers) // most))
        page = min(max(page, 0), pages - 1)
        shown = numbers[page * most : (page + 1) * most].tolist()
        return {
            "total": len(numbers),
            "page": page,
            "pages": pages,
            "rows": [self.card(number, other) for number in shown],
        }

    def card(self, number: int, other: ViewedRun | None = None) -> Json:
        """Summary of a face for the gallery."""
        row = self.faces.row(number)
        card: Json = {
            "number": number,
            "key": self._key(number),
            "image_id": row["image_id"],
            "source": row["source"],
            "face": row["face"],
            "revision": row["revision"],
            "metrics": self.faces.values(number),
        }
        if other is not None:
            partner = int(self.partners(other)[number])
            card["other"] = None if partner < 0 else other._beside(partner)
        return card

    def _beside(self, number: int) -> Json:
        """Summary of a face beside the same face of another run."""
        return {
            "number": number,
            "key": self._key(number),
            "metrics": self.faces.values(number),
        }

    def _key(self, number: int) -> str:
        return self.faces.place(number).key

    def number_of(self, key: str) -> int:
        """Number of a face by its key, ``IMAGE_ID/FACE``, or by its number as text.

        Raises:
            SpecError: there is no such face.
        """
        image_id, _, face = key.partition("/")
        if not face:
            return whole_from("face", key)
        number = self.faces.find(image_id, whole_from("face", face))
        if number < 0:
            raise SpecError("there is no such face in this run")
        return number

    def number_at(self, number: int, key: str) -> int:
        """Number of a face that had another one on a page of a run that goes on.

        Args:
            number: on the page.
            key: ``IMAGE_ID/FACE``, which decides; empty if the page gave none.

        Raises:
            SpecError: there is no such face.
        """
        if not key or (number < len(self.faces) and self._key(number) == key):
            return number
        return self.number_of(key)

    def face(self, number: int, other: ViewedRun | None = None) -> Json:
        """A face with all its steps.

        Raises:
            SpecError: there is no such face.
            FatalError: a file is missing or damaged.
        """
        place = self._place(number)
        pictures = self._pictures.of(place)
        maps = maps_of(pictures, self._what(number))
        changed = maps["change"]
        return self.card(number, other) | {
            "pictures": sorted(pictures),
            "changes": [step for step in sorted(changed) if step != TOTAL],
            "differences": sorted(maps["difference"]),
            "has_total": TOTAL in changed,
            "scale": scale_of(each for kind in maps.values() for each in kind.values()),
            "steps": self._steps.of(place),
        }

    def reject_page(self, name: str, reason: str, page: int, most: int) -> Json:
        """One page of rejects; see :meth:`restyle.pipeline.viewer.steps.RejectTable.select`."""
        total, rows = self.rejects.select(name, reason, page * most, most)
        return {
            "total": total,
            "page": page,
            "pages": max(1, -(-total // most)),
            "rows": [row | {"title": REASONS.get(row["reason"], row["reason"])} for row in rows],
        }

    def picture(self, number: int, step: int) -> bytes:
        """The encoded picture of a face at a step; -1 for the last saved step.

        Raises:
            SpecError: there is no such picture.
            FatalError: a file is missing or damaged.
        """
        pictures = self._pictures.of(self._place(number))
        step = max(pictures, default=-1) if step == -1 else step
        if step not in pictures:
            raise SpecError(f"face {number} has no picture of step {step}")
        return pictures[step]

    def map_of(self, number: int, step: int, kind: Kind) -> Change:
        """Map [h, w] of a step, or of the change from the first to the last step for -1.

        Raises:
            SpecError: there is no such map.
            FatalError: a file is missing or damaged.
        """
        pictures = self._pictures.of(self._place(number))
        maps = maps_of(pictures, self._what(number))[kind]
        if step not in maps:
            raise SpecError(f"face {number} has no map of step {step}")
        return maps[step]

    def editable(self, number: int) -> RunFace:
        """A face as the page edits it.

        Raises:
            SpecError: there is no such face.
        """
        source = self.faces.row(number)["source"] if 0 <= number < len(self.faces) else ""
        return RunFace(self._current, self._place(number), source, self._photographs)

    def close(self) -> None:
        """Stop the child processes that read photographs."""
        self._photographs.close()
        self.uploads.close()

    def partners(self, other: ViewedRun) -> IntArray:
        """Index of each face in another run, or -1, [N]."""
        with self._guard:
            here, there = self.faces, other.faces
            kept = self._partners.get(id(other))
            if kept is None or kept[0] is not there or len(kept[1]) != len(here):
                kept = self._partners[id(other)] = there, here.partners(there)
            return kept[1]

    def _differences(self, other: ViewedRun, metric: str) -> np.ndarray:
        missing = np.full(len(self.faces), np.nan, np.float32)
        here, there = self.faces.metrics.get(metric), other.faces.metrics.get(metric)
        if here is None or there is None:
            return missing
        partners = self.partners(other)
        return np.where(partners < 0, missing, there[partners] - here)

    def _place(self, number: int) -> Place:
        if not 0 <= number < len(self.faces):
            raise SpecError(f"there is no face {number}")
        return self.faces.place(number)

    def _what(self, number: int) -> str:
        return f"a picture of {self.faces.row(number)['source']}"


def _bound(values: np.ndarray, of: Any) -> float | None:
    return float(of(values)) if np.isfinite(values).any() else None
