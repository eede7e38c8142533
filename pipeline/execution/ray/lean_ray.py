"""What a private cluster for one run does without, of all that Ray starts by default.

Ray has no options for these. Each is a process that takes half a second to a second of a processor
to start, which is most of what a run of one photograph costs; none has a part in the work. Should
a new version of Ray have other names for them, the names here are not found and a test says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import ray
import ray._private.node
import ray._private.utils

# The autoscaler's monitor, the dashboard's server, the collector of logs.
_SERVICES = ("start_monitor", "start_api_server", "start_log_monitor")

# Numbers for the dashboard, which an actor of its own collects.
_STATISTICS = (
    "register_dataset_to_stats_actor",
    "update_execution_metrics",
    "update_iteration_metrics",
)


@contextlib.contextmanager
def few_services() -> Iterator[None]:
    """A node that is started meanwhile has no service that is not needed."""

    def no_service(self: Any, **_: object) -> None:
        self._webui_url = None

    def not_installed() -> ImportError:
        # What makes the node's agent the small one that plain Ray has. The node counts on no one
        # before its agents are up, and with the dashboard's libraries that can take five seconds.
        return ImportError("the dashboard is not wanted")

    with (
        _replaced(ray._private.node.Node, dict.fromkeys(_SERVICES, no_service)),
        _replaced(ray._private.utils, {"get_dashboard_dependency_error": not_installed}),
    ):
        yield


@contextlib.contextmanager
def few_actors() -> Iterator[None]:
    """A dataset that is executed meanwhile has no statistics, and asks for no new nodes."""
    from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
    from ray.data._internal.execution import streaming_executor
    from ray.data._internal.execution.interfaces import ExecutionResources
    from ray.data._internal.stats import _StatsManager

    class NoAutoscaler(ClusterAutoscaler):
        def try_trigger_scaling(self) -> None:
            pass

        def on_executor_shutdown(self) -> None:
            pass

        def get_total_resources(self) -> Any:
            resources: Any = ray.cluster_resources()  # type: ignore[no-untyped-call]
            return ExecutionResources.from_resource_dict(resources)

    def not_told(*_: object, **__: object) -> None:
        pass

    def no_autoscaler(*_: object, **__: object) -> NoAutoscaler:
        return NoAutoscaler()

    statistics = dict.fromkeys(_STATISTICS, staticmethod(not_told))
    with (
        _replaced(_StatsManager, statistics),
        _replaced(streaming_executor, {"create_cluster_autoscaler": no_autoscaler}),
    ):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, names: dict[str, Any]) -> Iterator[None]:
    saved = {name: vars(owner)[name] for name in names}
    for name, value in names.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in saved.items():
            setattr(owner, name, value)
