"""What Ray and its workers read from the environment, set before Ray is imported."""

from __future__ import annotations

import os

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""A cluster on this machine alone listens on its loopback interface alone with this set to 0. Ray
has the switch for systems whose firewall would ask; it is read once, while Ray is imported."""

_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Alignment shares the cores with inversion, whose idle threads would otherwise spin on them for
    # long; as long as the pauses between two operators, or each of these would wake a thread.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "10000",
    # One heap for all threads of a process. A worker has many before it could ask for that itself,
    # and the heaps of theirs give large blocks back at once: see restyle.core.devices.allocator.
    "MALLOC_ARENA_MAX": "1",
    # Not behind everything else that runs on this machine; 15 by default.
    "RAY_worker_niceness": "0",
    # Warns of arguments that a restarted actor may lose; they live as long as this process.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A call after the end of a cluster, as Ray Data's threads make when one is lost, would start
    # another, outside of any session.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Ray ends this process when it has lost a cluster for so long; that is noticed and told before.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "300",
}


def import_ray() -> None:
    """Import Ray with these variables set; those that the user has set stay as they are."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    given = os.environ.get(LOOPBACK_SWITCH)
    os.environ.setdefault(LOOPBACK_SWITCH, "0")
    try:
        import ray  # noqa: F401
    finally:
        if given is None:
            # Other Ray processes that are started from here may be those of a cluster.
            del os.environ[LOOPBACK_SWITCH]
