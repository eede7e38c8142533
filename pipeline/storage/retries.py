"""Trying again: what a storage or a network refuses for the moment, with growing pauses."""

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
"""``TRIES`` or ``TRIES:SECONDS``: how often a call is made at most, and the first pause."""

TRIES = 6
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
PATIENCE = 300.0
"""Seconds after which no new try begins: a server that hangs uses up each try's time limit."""

_log = logging.getLogger(__name__)


def retrying(call: Callable[[], T]) -> T:
    """Make a call that may be made twice, again and again while it fails for the moment.

    The pauses double from one second on, each made up to half shorter or longer by chance, so that
    many workers do not come back at once: six tries take about half a minute.

    Args:
        call: raises :class:`TransientError` where another try may help.

    Returns:
        What the call returns.

    Raises:
        TransientError: the last try's, which says how many there were.
        SpecError: the environment variable makes no sense.
    """
    tries, pause = _limits()
    began = time.monotonic()
    for number, seconds in enumerate(_pauses(pause), start=1):
        try:
            return call()
        except TransientError as error:
            # Monotonic, so that a clock that is set does neither end nor prolong this.
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
