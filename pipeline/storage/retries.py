"""Retries of transient failures with exponential back-off."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from restyle.core.errors import SpecError, TransientError

T = TypeVar("T")

VARIABLE = "RESTYLE_RETRIES"
"""Environment variable ``TRIES`` or ``TRIES:SECONDS``: number of tries, and the first pause."""

TRIES = 6
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
PATIENCE = 300.0
"""Seconds after which no further try starts, for servers that use up each try's timeout."""

_log = logging.getLogger(__name__)


def retrying(call: Callable[[], T]) -> T:
    """Repeat an idempotent call while it fails with :class:`TransientError`.

    Pauses double from one second on, with random jitter of 50% so that workers do not retry
    simultaneously. Six tries take about half a minute.

    Args:
        call: the call.

    Returns:
        The result of the call.

    Raises:
        TransientError: from the last try, with the number of tries.
        SpecError: the environment variable is invalid.
    """
    tries, pause = _limits()
    began = time.monotonic()
    for number, seconds in enumerate(_pauses(pause), start=1):
        try:
            return call()
        except TransientError as error:
            # Monotonic, so that setting the system's clock has no effect.
            late = time.monotonic() - began + seconds > PATIENCE
            if number >= tries or late:
                if number == 1:
                    raise
                raise TransientError(f"{error} (tried {number} times)") from error
            _log.info("%s; trying again in %.1f s", error, seconds)
            time.sleep(seconds)
    raise AssertionError("the pauses have no end")


def _pauses(first: float) -> Iterator[float]:
    while True:
        yield min(first, LONGEST_PAUSE) * random.uniform(0.5, 1.5)
        first *= 2


def _limits() -> tuple[int, float]:
    given = os.environ.get(VARIABLE)
    if not given:
        return TRIES, FIRST_PAUSE
    tries, _, pause = given.partition(":")
    try:
        limits = int(tries), float(pause or FIRST_PAUSE)
    except ValueError:
        limits = 0, 0.0
    if limits[0] < 1 or not 0 <= limits[1] <= LONGEST_PAUSE:
        raise SpecError(f"{VARIABLE}={given} is not TRIES or TRIES:SECONDS, as in 6:1")
    return limits
