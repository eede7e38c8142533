"""Environment variables of Ray and its workers, set before Ray is imported."""

from __future__ import annotations

import os

from restyle.pipeline.execution.pools import WAITING

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""A cluster on this machine alone listens on its loopback interface alone with this set to 0. Ray
has the switch for systems whose firewall would ask; it is read once, while Ray is imported."""

_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    **WAITING,
    # One heap for all threads of a process: the heaps of threads return large blocks to the system
    # at once, see restyle.core.devices.allocator. A worker could not set it early enough.
    "MALLOC_ARENA_MAX": "1",
    # Ordinary priority; Ray's default is 15.
    "RAY_worker_niceness": "0",
    # Suppresses a warning about arguments that a restarted actor may lose; they are kept here.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A call after the end of a cluster, as Ray Data's threads make when one is lost, would start
    # another, outside of any session.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # With workers that it starts ahead, Ray answers its first driver only when all of them have
    # registered. If one dies before, as on a machine too busy for it to connect in time, ray.init
    # waits for ever (2.60). Started when they are needed, they take a second longer.
    "RAY_prestart_worker_first_driver": "0",
    # Seconds after the loss of a cluster at which Ray ends this process; detected earlier here.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "300",
}


def import_ray() -> None:
    """Import Ray with the variables set that the user has not set."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    given = os.environ.get(LOOPBACK_SWITCH)
    os.environ.setdefault(LOOPBACK_SWITCH, "0")
    try:
        import ray  # noqa: F401
    finally:
        if given is None:
            # Processes of a cluster across machines may be started from this one.
            del os.environ[LOOPBACK_SWITCH]
