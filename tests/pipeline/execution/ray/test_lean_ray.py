"""Without starting Ray: that all of Ray's names are found, replaced, and put back."""

from __future__ import annotations

import ray._private.node
from ray.data._internal.execution import streaming_executor
from ray.data._internal.stats import _StatsManager

from restyle.pipeline.execution.ray import lean_ray


def test_services_are_left_out_for_as_long_as_asked() -> None:
    node = ray._private.node.Node
    before = {name: vars(node)[name] for name in lean_ray._SERVICES}
    with lean_ray.few_services():
        for name, function in before.items():
            assert vars(node)[name] is not function
    assert {name: vars(node)[name] for name in lean_ray._SERVICES} == before


def test_actors_are_left_out_for_as_long_as_asked() -> None:
    before = {name: vars(_StatsManager)[name] for name in lean_ray._STATISTICS}
    autoscaler = streaming_executor.create_cluster_autoscaler
    with lean_ray.few_actors():
        # Would start Ray, and fail without it.
        _StatsManager.update_execution_metrics("dataset", [], [], {})
        made = streaming_executor.create_cluster_autoscaler({}, None, None, execution_id="x")
        made.try_trigger_scaling()
        made.on_executor_shutdown()
    assert {name: vars(_StatsManager)[name] for name in lean_ray._STATISTICS} == before
    assert streaming_executor.create_cluster_autoscaler is autoscaler
