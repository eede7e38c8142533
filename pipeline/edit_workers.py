"""Processes that edit lots of faces side by side; the caller's own process where one is enough."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from pipeline.datasets import encode
from pipeline.edit_rows import edit_table
from pipeline.edit_settings import EditSettings
from pipeline.editor import Editor
from pipeline.face_rows import FaceRows, Key
from pipeline.photographs import Input, Photographs
from restyle_core.directions import Direction
from restyle_core.errors import FatalError, RestyleError
from restyle_core.model import Model, load_model


@dataclass(frozen=True, eq=False)
class EditJob:
    """What a process needs to know.

    Attributes:
        out: the output whose faces are edited.
        model: what ``load_model`` takes.
        dtype: of the model's activations.
        device: ``auto``, ``cpu`` or ``cuda``.
        settings: of the edits.
        directions: those that the settings describe.
        inputs: the photographs that faces may be put back into; none unless they are.
    """

    out: str
    model: str
    dtype: str
    device: str
    settings: EditSettings
    directions: Sequence[Direction]
    inputs: frozenset[Input]

    def editor(self, model: Model | None = None) -> Editor:
        """What does the work; with a model of its own unless one is at hand."""
        model = model or load_model(self.model, dtype=self.dtype, device=self.device)
        photographs = Photographs(self.out, self.inputs) if self.inputs else None
        return Editor(model, self.settings, self.directions, photographs)


@dataclass(frozen=True)
class EditedLot:
    """Faces that are done.

    Attributes:
        keys: of the faces.
        data: their rows, as a Parquet file.
    """

    keys: Sequence[Key]
    data: bytes


def edited_lot(editor: Editor, settings: EditSettings, faces: FaceRows) -> EditedLot:
    """Edit some faces in this process."""
    return EditedLot(faces.keys, encode(edit_table(editor(faces), settings)))


@contextlib.contextmanager
def edit_workers(job: EditJob, count: int) -> Iterator[EditWorkers]:
    """Processes for the length of a ``with`` block; they end with it, whatever they are at."""
    workers = EditWorkers(job, count)
    try:
        yield workers
    finally:
        workers.close()


class EditWorkers:
    """Hands out lots and gives back what comes of them, in the order in which they are done.

    Args:
        job: the same for all.
        count: how many processes.
    """

    def __init__(self, job: EditJob, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        threads = max(1, (os.cpu_count() or 1) // count)
        self._processes: list[BaseProcess] = []
        self._idle: list[Connection] = []
        self._busy: list[Connection] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(job, theirs, threads), daemon=True)
            process.start()
            # Only the child may hold its end, so that ours tells when it has died.
            theirs.close()
            self._processes.append(process)
            self._idle.append(ours)

    def map(self, lots: Iterable[FaceRows]) -> Iterator[EditedLot]:
        """Edit lots; one more is read ahead than there are idle processes.

        Raises:
            RestyleError: a process met it.
            FatalError: a process died.
        """
        for lot in lots:
            while not self._idle:
                yield from self._done()
            connection = self._idle.pop()
            with contextlib.suppress(BrokenPipeError):
                # That it has died is noticed when nothing comes back.
                connection.send(lot)
            self._busy.append(connection)
        while self._busy:
            yield from self._done()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for connection in (*self._idle, *self._busy):
            connection.close()

    def _done(self) -> Iterator[EditedLot]:
        ready = wait(self._busy)
        for connection in [each for each in self._busy if each in ready]:
            try:
                answer = connection.recv()
            except (EOFError, ConnectionError) as error:
                raise FatalError(
                    "a process that edits has died, perhaps for want of memory; what is done "
                    "is kept, run the same command again, with fewer --workers"
                ) from error
            self._busy.remove(connection)
            self._idle.append(connection)
            if isinstance(answer, RestyleError):
                raise answer
            yield answer


def _work(job: EditJob, connection: Connection, threads: int) -> None:
    # Ctrl-C reaches all processes of a terminal; who gave the work out ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        editor = job.editor()
        while True:
            faces = connection.recv()
            try:
                answer: EditedLot | RestyleError = edited_lot(editor, job.settings, faces)
            except RestyleError as error:
                answer = error
            connection.send(answer)
    except (EOFError, BrokenPipeError):
        # Nobody gives out work any more.
        return
    except RestyleError as error:
        # Before the first lot: the answer to it, whichever it is.
        connection.recv()
        connection.send(error)
