"""The exception tree of the project, and the reasons an input can be rejected for.

::

    RestyleError
    ├── RejectError      the input's fault: recorded in ``rejects/``, the job continues
    ├── TransientError   storage or a lost worker: retried with back-off
    └── FatalError       the job's fault: stops at once, one line, exit code 2
        ├── CheckpointError   a weights file that cannot be used
        ├── DamagedError      a damaged file of an output
        └── SpecError         invalid options or training specification

Every message states the fault, its place and the remedy, in one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class RejectReason(StrEnum):
    """Why an input has no latent: the ``reason`` column of ``rejects/``."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    TOO_SMALL = "too_small"
    ANIMATED = "animated"
    UNSUPPORTED_MODE = "unsupported_mode"
    NO_FACE = "no_face"
    TURNED_AWAY = "turned_away"
    NO_LANDMARKS = "no_landmarks"
    BAD_LANDMARKS = "bad_landmarks"
    LANDMARKS_OUTSIDE = "landmarks_outside"
    UNREADABLE = "unreadable"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    DAMAGED_ARCHIVE = "damaged_archive"
    UNSUPPORTED_ARCHIVE = "unsupported_archive"
    DUPLICATE_NAME = "duplicate_name"
    UNSAFE_NAME = "unsafe_name"


class RestyleError(Exception):
    """Base class of everything this project raises on purpose."""


class RejectError(RestyleError):
    """One input cannot be inverted, and a retry would not help.

    Attributes:
        reason: machine-readable reason; ``str(error)`` is the message.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[RejectError], tuple[RejectReason, str]]:
        return type(self), (self.reason, str(self))


class TransientError(RestyleError):
    """Something outside the job failed and may work again: storage, a network, a lost worker."""


class FatalError(RestyleError):
    """The job cannot go on: bad options, missing weights, a full disk."""


class CheckpointError(FatalError):
    """A weights file is missing, damaged, unsafe, or does not fit the network it is meant for."""


class DamagedError(FatalError):
    """A file of an output was read and is damaged."""


class SpecError(FatalError):
    """Options or a specification are contradictory or name something that does not exist."""


def reason_of(error: BaseException) -> str:
    """What an error of the system or of a library says, in one line; its type if it says nothing.

    A system's error has its description alone, without number and path.
    """
    told = getattr(error, "strerror", None) or str(error)
    return " ".join(told.split()) or type(error).__name__


def fault_of(fault: Mapping[str, Any], whole: str = "") -> str:
    """What is wrong with a value that was read, and where: ``images.0: Input should be ...``.

    Args:
        fault: one of pydantic's ``ValidationError.errors()``.
        whole: name of the place of a fault of all values together.
    """
    where = ".".join(map(str, fault["loc"])) or whole
    if fault["type"] == "missing":
        return f"{where} is missing"
    if fault["type"] == "extra_forbidden":
        return f"{where} is not known"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def first_line_of(error: BaseException) -> str:
    """The first line of an error, for libraries that add details; its type if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
