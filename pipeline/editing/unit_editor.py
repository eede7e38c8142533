"""Editing of units: from the faces of a unit to encoded dataset files."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

import torch

from restyle.core.inference.model import load_model
from restyle.pipeline.accounting.machine import WorkerInfo
from restyle.pipeline.editing.editor import Editor
from restyle.pipeline.editing.job import EditJob
from restyle.pipeline.editing.plan import inverted_in
from restyle.pipeline.editing.rows import FOLDER, edit_table
from restyle.pipeline.editing.summary import edit_sums
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.datasets import encode
from restyle.pipeline.ledger.manifest import PlanReader, UnitRef
from restyle.pipeline.results.face_rows import UnitFaces
from restyle.pipeline.sources import SourceReader
from restyle.pipeline.sources.photographs import Photographs
from restyle.pipeline.storage.filesystem import open_storage


class UnitEditor:
    """Owns the model and edits units.

    Thread-safe: while one unit is computed, others are read, encoded or written.

    Args:
        job: of the run.
        threads: number of CPU threads.
        stepped: called after each unit's computation.
    """

    def __init__(self, job: EditJob, threads: int, stepped: Callable[[], None]) -> None:
        self._threads = threads
        torch.set_num_threads(threads)
        self._settings = job.settings
        self._model = load_model(job.model, dtype=job.dtype, device=job.device)
        self._editor = Editor(self._model, job.settings, job.directions)
        self._plans = PlanReader(open_storage(job.out))
        self._faces = UnitFaces(job.inversion)
        self._has_generators = job.has_generators
        self._photographs: SourceReader | None = None
        if job.settings.paste_back != "none":
            self._photographs = SourceReader(job.photographs, job.policy)
        self._stepped = stepped
        self._guard = threading.Lock()

    @property
    def worker_info(self) -> WorkerInfo:
        """Where and how it computes."""
        return WorkerInfo.of(self._model)

    def __call__(self, ref: UnitRef) -> EncodedUnit:
        """Edit one unit; rows have the order of the inversion's.

        Raises:
            FatalError: files of the inversion are missing or damaged.
        """
        started = time.perf_counter()
        unit = self._plans.read(ref)
        inputs = {(image.image_id, image.revision) for image in unit.images}
        faces = self._faces.read(inverted_in(unit.name), inputs)
        weights_of = None
        if self._has_generators:
            weights_of = functools.partial(self._faces.weights, inverted_in(unit.name))
        photographs = None
        if self._photographs is not None:
            photographs = Photographs(self._photographs, unit.images)
        read = time.perf_counter()
        with self._guard:
            begun = time.perf_counter()
            # The setting applies only to the calling thread.
            torch.set_num_threads(self._threads)
            edited = self._editor(faces, photographs, weights_of)
            computed = time.perf_counter()
        self._stepped()
        table = edit_table(edited, self._settings)
        data = encode(table)
        return EncodedUnit(
            unit=unit.name,
            images=len(unit.images),
            faces=len(faces),
            rejects={},
            files={FOLDER: (data, table.num_rows)},
            metrics=edit_sums(table, self._settings),
            seconds={
                "read": read - started,
                "edit": computed - begun,
                "encode": time.perf_counter() - computed,
            },
        )

    def close(self) -> None:
        """Do nothing; there are no threads."""
