"""The executor of units on Ray.

The connection to Ray belongs to a child process, :mod:`restyle.pipeline.execution.ray.connection`.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from restyle.core.errors import RestyleError
from restyle.kernels.private_folder import remove_abandoned
from restyle.pipeline.execution.job import Job, UnitResult
from restyle.pipeline.execution.ray.connection import (
    AskGpus,
    Ended,
    Measured,
    Noted,
    Occupied,
    Round,
)
from restyle.pipeline.execution.ray.session import FOLDERS, PREFIX
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.watchdog import Stalled
from restyle.pipeline.isolation.process import ChildProcess, ending
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.listener import Listener
from restyle.pipeline.monitoring.measures import Sample

_MODULE = "restyle.pipeline.execution.ray"

# Seconds that the start of a cluster, or the connection to one, may take. Ray waits for ever for a
# raylet that does not answer, with the interpreter's lock held, so only the parent can end it.
_START_SECONDS = 300.0

# Seconds without a message after which a process that was asked to end is killed.
_CLOSE_SECONDS = 60.0

# Least seconds between two times that a cluster is given the measures.
_MEASURE_SECONDS = 2.0

# Seconds that its cluster's processes may take to end.
_END_SECONDS = 15.0


@contextlib.contextmanager
def ray_engine(
    workers: Workers | None = None,
    listener: Listener | None = None,
    samples: Callable[[], Sequence[Sample]] = tuple,
) -> Iterator[Callable[[Job, Sequence[UnitRef]], Iterator[UnitResult]]]:
    """Context manager of a connection to a cluster, whose value runs units on it.

    The connection is made in the background; its failure is raised by the first round.

    Args:
        workers: cluster and number of actors.
        listener: receives notes about the actors, and the number of units at each stage.
        samples: returns the run's measures, which a cluster that others watch publishes.
    """
    with contextlib.closing(
        _Connection(workers or Workers(), listener or Listener(), samples)
    ) as connection:
        yield connection.run_units


def has_gpus(address: str) -> bool:
    """Return whether a cluster has a node with a GPU.

    Args:
        address: of the cluster.

    Raises:
        FatalError: the cluster does not answer.
    """
    with contextlib.closing(_Connection(Workers(address=address), Listener())) as connection:
        return connection.ask_gpus()


class _Connection:
    """The child process that is connected to Ray; started again after a loss.

    Args:
        workers: cluster and number of actors.
        listener: as for :func:`ray_engine`.
        samples: as for :func:`ray_engine`.
    """

    def __init__(
        self,
        workers: Workers,
        listener: Listener,
        samples: Callable[[], Sequence[Sample]] = tuple,
    ) -> None:
        self._samples = samples
        self._measured = -math.inf
        self._workers = workers
        self._listener = listener
        self._process: ChildProcess | None = ChildProcess(_MODULE, workers)

    def run_units(self, job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        """Run units. Units whose worker died may have no result.

        Args:
            job: parameters of the workers.
            units: pending units.

        Yields:
            The result of each unit when it is committed or has failed, in any order.

        Raises:
            FatalError: the cluster does not start or answer, or no node has room for a stage.
            Stalled: the round ended early; units without an entry can be run again.
        """
        self._ask(Round(job, units))
        while not isinstance(message := self._receive(), Ended):
            yield message
            self._measure()
        if message.error:
            self._end()
            raise Stalled(message.error)

    def ask_gpus(self) -> bool:
        """Return whether a node of the cluster has a GPU."""
        self._ask(AskGpus())
        answer: bool = self._receive()
        return answer

    def close(self) -> None:
        """End the process: at once in the middle of a round, else when it has left the cluster."""
        if self._process is None:
            return
        # Only an error of a round that was not awaited can arrive here.
        with contextlib.suppress(EOFError, OSError, RestyleError):
            self._measure(at_once=True)
            self._process.send(None)
            while True:
                self._hear(self._process.receive(_CLOSE_SECONDS))
        self._end()

    def _ask(self, request: Round | AskGpus) -> None:
        if self._process is None:
            self._process = ChildProcess(_MODULE, self._workers)
        # A process that has ended may have told why.
        with contextlib.suppress(OSError):
            self._process.send(request)

    def _measure(self, *, at_once: bool = False) -> None:
        """Pass the measures on, unless that was done a moment ago."""
        # On a cluster of its own nobody would look.
        is_due = at_once or time.monotonic() - self._measured >= _MEASURE_SECONDS
        if self._process is None or self._workers.address is None or not is_due:
            return
        self._measured = time.monotonic()
        # Whoever receives next is told of the process's end.
        with contextlib.suppress(OSError):
            self._process.send(Measured(self._samples()))

    def _receive(self) -> Any:
        assert self._process is not None  # noqa: S101 (it was asked)
        try:
            self._process.wait_ready(_START_SECONDS)
            while self._hear(message := self._process.receive(None)):
                pass
        except (EOFError, OSError) as error:
            has_started, code = self._process.was_ready, self._end()
            if not has_started and code == -signal.SIGALRM:
                raise Stalled(f"Ray did not answer within {_START_SECONDS:g} s") from error
            raise Stalled(f"the process that is connected to Ray ended ({ending(code)})") from error
        return message

    def _hear(self, message: object) -> bool:
        """Pass an event on to the listener; return whether it was one."""
        if isinstance(message, Noted):
            self._listener.noted(message.line)
        elif isinstance(message, Occupied):
            self._listener.occupied(message.stage, message.working, None)
            self._measure()
        return isinstance(message, Noted | Occupied)

    def _end(self) -> int:
        """Wait for the end of the process, return its exit code and delete its cluster's files."""
        assert self._process is not None  # noqa: S101 (it was started)
        code = self._process.stop(_END_SECONDS)
        self._process = None
        remove_abandoned(FOLDERS, PREFIX)
        return code
