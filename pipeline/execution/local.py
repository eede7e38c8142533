"""Execution of units in this process, for jobs too small for the start of a cluster.

Stages, ledger and isolation of the decoders are those of a cluster. Missing are other machines,
more than one GPU, and workers whose death the run survives; a run that dies continues from its
ledger.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Iterator, Sequence

from restyle.pipeline.execution.job import Job, Stage, StageSpec, UnitResult, failure
from restyle.pipeline.execution.pools import WAITING
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.listener import Listener


def run_here(
    job: Job, units: Sequence[UnitRef], listener: Listener | None = None
) -> Iterator[UnitResult]:
    """Run units in threads of this process.

    Args:
        job: parameters of the stages.
        units: pending units.
        listener: receives the number of units at each stage.

    Yields:
        The result of each unit when it is committed or has failed, in any order.
    """
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    images = sum(unit.images for unit in units)
    specs = job.stages
    with contextlib.ExitStack() as at_end:
        steps = [_Step(spec, job, images, listener or Listener()) for spec in specs]
        for step in steps[:1]:
            step.arrive(len(units))
        for step in steps:
            at_end.callback(step.close)
        waiting: queue.SimpleQueue[UnitRef] = queue.SimpleQueue()
        done: queue.SimpleQueue[UnitResult | BaseException] = queue.SimpleQueue()
        for unit in units:
            waiting.put(unit)
        at_once = min(sum(spec.together for spec in specs), len(units))
        stopped = threading.Event()
        at_end.callback(stopped.set)
        for _ in range(at_once):
            # Daemon threads, since a unit may take minutes and Ctrl-C must end the process at once.
            threading.Thread(
                target=_work, args=(steps, waiting, done, stopped), name="unit", daemon=True
            ).start()
        for _ in units:
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            yield result


class _Step:
    """A stage that starts in the background, with a limit on its units at the same time."""

    def __init__(self, spec: StageSpec, job: Job, images: int, listener: Listener) -> None:
        self._name = spec.name
        self._listener = listener
        self._counting = threading.Lock()
        self._waiting = self._working = 0
        self._room = threading.Semaphore(spec.together)
        self._stage: Stage | Exception | None = None
        self._starting = threading.Thread(
            target=self._start, args=(spec, job, min(job.threads, images)), daemon=True
        )
        self._starting.start()

    def __call__(self, name: str, unit: object) -> object:
        """Process one unit."""
        self._starting.join()
        if not isinstance(self._stage, Exception):
            assert self._stage is not None  # noqa: S101 (it has started)
            with self._room:
                self._count(waiting=-1, working=1)
                try:
                    return self._stage(unit)
                finally:
                    self._count(working=-1)
        return failure(name, self._stage, fatal=True)

    def arrive(self, units: int) -> None:
        """Count units that wait for this stage from now on."""
        self._count(waiting=units)

    def _count(self, *, waiting: int = 0, working: int = 0) -> None:
        # Told under the lock, so that the last event has the present numbers.
        with self._counting:
            self._waiting += waiting
            self._working += working
            self._listener.occupied(self._name, self._working, self._waiting)

    def close(self) -> None:
        """Wait until the stage has started, and end it."""
        self._starting.join()
        if self._stage is not None and not isinstance(self._stage, Exception):
            self._stage.close()

    def _start(self, spec: StageSpec, job: Job, threads: int) -> None:
        try:
            self._stage = spec.start(job, threads, None)
        except Exception as error:
            self._stage = error


def _work(
    steps: Sequence[_Step],
    waiting: queue.SimpleQueue[UnitRef],
    done: queue.SimpleQueue[UnitResult | BaseException],
    stopped: threading.Event,
) -> None:
    with contextlib.suppress(queue.Empty):
        while not stopped.is_set():
            ref = waiting.get_nowait()
            try:
                done.put(_passed(steps, ref))
            except BaseException as error:
                # Without an element in the queue the run would wait forever.
                done.put(error)
                return


def _passed(steps: Sequence[_Step], ref: UnitRef) -> UnitResult:
    unit: object = ref
    for number, step in enumerate(steps):
        if number:
            step.arrive(1)
        unit = step(ref.name, unit)
        if isinstance(unit, UnitResult):
            return unit
    return failure(ref.name, TypeError(f"the last stage returned {type(unit).__name__}"))
