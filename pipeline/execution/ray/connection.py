"""The process that is connected to Ray: ``python -m restyle.pipeline.execution.ray FD``.

Ray's native code ends its process when a cluster is lost, or crashes when it is shut down while
another thread waits in it. In a process of its own that costs a round, not the run.
"""

from __future__ import annotations

import importlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restyle.core.errors import RestyleError
from restyle.pipeline.execution.job import Job, one_line
from restyle.pipeline.execution.ray.environment import import_ray
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.isolation.child import Parent
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.listener import Listener
from restyle.pipeline.monitoring.measures import Sample

if TYPE_CHECKING:
    from restyle.pipeline.execution.ray.cluster import Cluster
    from restyle.pipeline.execution.ray.graph import Graph
    from restyle.pipeline.execution.ray.messages import Messages


@dataclass(frozen=True)
class Connected:
    """First message: there is a connection to a cluster."""


@dataclass(frozen=True)
class Round:
    """Request to run units; answered by their results and :class:`Ended`."""

    job: Job
    units: Sequence[UnitRef]


@dataclass(frozen=True)
class AskGpus:
    """Request to tell whether a node has a GPU; answered by a bool."""


@dataclass(frozen=True)
class Measured:
    """The run's measures now, for a cluster that others watch; not answered."""

    samples: Sequence[Sample]


@dataclass(frozen=True)
class Occupied:
    """Number of units that workers of a stage have in work.

    Attributes:
        stage: name of the stage.
        working: number of units.
    """

    stage: str
    working: int


@dataclass(frozen=True)
class Noted:
    """Message for the user."""

    line: str


@dataclass(frozen=True)
class Ended:
    """End of a round.

    Attributes:
        error: reason, in one line, for an early end, with which this process ends too; else empty.
    """

    error: str = ""


class _Notes(Listener):
    def __init__(self, parent: Parent) -> None:
        self._parent = parent

    def noted(self, line: str) -> None:
        self._parent.send(Noted(line))

    def occupied(self, stage: str, working: int, waiting: int | None) -> None:
        del waiting
        self._parent.send(Occupied(stage, working))


class _Requests:
    """Receives requests in a thread, so that the end of the parent ends this process at once.

    Args:
        parent: the connection.
        cluster: is killed before this process ends in the middle of a round.
        messages: are written before.

    Attributes:
        publish: receives the run's measures; None until there is a cluster that takes them.
    """

    def __init__(self, parent: Parent, cluster: Cluster, messages: Messages) -> None:
        self._parent = parent
        self._cluster = cluster
        self._messages = messages
        self._queue: queue.SimpleQueue[Round | AskGpus | None] = queue.SimpleQueue()
        self._is_busy = True
        self.publish: Callable[[Sequence[Sample]], None] | None = None
        threading.Thread(target=self._receive, name="requests", daemon=True).start()

    def next(self) -> Round | AskGpus | None:
        """Return the next request; None at the end."""
        self._is_busy = False
        request = self._queue.get()
        self._is_busy = True
        return request

    def _receive(self) -> None:
        try:
            while (request := self._parent.receive()) is not None:
                if not isinstance(request, Measured):
                    self._queue.put(request)
                elif self.publish is not None:
                    self.publish(request.samples)
        except (EOFError, OSError):
            # Nothing is written: another run may have taken over the output.
            self._cluster.kill()
            os._exit(1)
        if self._is_busy:
            self._cluster.kill()
            self._messages.write()
            os._exit(0)
        self._queue.put(None)


def serve(parent: Parent) -> None:
    """Connect to Ray and serve requests until the parent ends them.

    Args:
        parent: the connection; its first message is :class:`Workers`.
    """
    workers: Workers = parent.receive()
    import_ray()
    from restyle.pipeline.execution.ray.cluster import Cluster
    from restyle.pipeline.execution.ray.messages import Messages

    notes, messages, cluster = _Notes(parent), Messages(), Cluster(workers.address)
    requests = _Requests(parent, cluster, messages)
    # The start of a cluster is mostly waiting, the import mostly work.
    importing = threading.Thread(
        target=importlib.import_module, args=("restyle.pipeline.execution.ray.graph",)
    )
    importing.start()
    with messages.taken(notes), cluster:
        importing.join()
        from restyle.pipeline.execution.ray.graph import Graph

        if not cluster.is_local:
            from restyle.pipeline.execution.ray.measures import RayMeasures

            requests.publish = RayMeasures().publish
        graph = Graph(cluster, workers, notes, messages)
        parent.send(Connected())
        while (request := requests.next()) is not None:
            if isinstance(request, AskGpus):
                parent.send(any(offer.gpus for offer in cluster.offers()))
            else:
                _run(graph, request, parent, cluster)


def _run(graph: Graph, request: Round, parent: Parent, cluster: Cluster) -> None:
    """Run the units of a round; ends this process if the round ends early."""
    try:
        for result in graph.run_units(request.job, request.units):
            parent.send(result)
        parent.send(Ended())
    except RestyleError as error:
        parent.send(error)
    except Exception as error:
        # The cluster may be lost; then a further call to Ray could hang or crash.
        parent.send(Ended(one_line(error)))
        cluster.kill()
        os._exit(1)
