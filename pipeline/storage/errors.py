"""What a file system or an object store's client raises, as this project's errors."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from restyle.core.errors import FatalError, RestyleError, TransientError

DAMAGE = (
    "`restyle verify` tells what else is, `restyle repair` makes the output fit to be continued"
)
"""What to do where a file of an output is missing or damaged, to follow that it is."""

_FATAL_ERRNO = {
    errno.ENOSPC: "no space is left on the device; free some and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EFBIG: "the file would be larger than is allowed",
}

# Raised by object stores' clients outside of the OSError tree; trying again does not help.
_FATAL_NAMES = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound"}
)

# Refused by an S3 server for what happened on the way there, although the request was right.
_PASSING_CODES = frozenset(
    {"RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
)
_SKEWED = "RequestTimeTooSkewed"
_BAD_REQUEST, _FORBIDDEN, _REDIRECTS = 400, 403, (301, 307)


@contextlib.contextmanager
def storage_errors(doing: str, where: str) -> Iterator[None]:
    """Turn whatever a file system raises into this project's errors, in one line.

    Args:
        doing: what was tried, as in ``cannot write``.
        where: the place, fit to be shown.

    Raises:
        FileNotFoundError: passed on, for the caller to judge.
        FatalError: trying again cannot help.
        TransientError: everything else.
    """
    try:
        yield
    except (RestyleError, FileNotFoundError):
        raise
    except Exception as error:
        raise explained(error, doing, where) from error


def explained(error: Exception, doing: str, where: str) -> RestyleError:
    """The error to raise for one that a file system raised; arguments as above."""
    code, status = _response(error)
    if code == _SKEWED:
        # Passes once the clock has been set right, which machines do by themselves.
        return TransientError(f"{doing} {where}: this machine's clock differs from the server's")
    reason = _reason(error)
    if (isinstance(error, PermissionError) and error.errno is None) or status == _FORBIDDEN:
        return FatalError(
            f"{doing} {where}: access denied ({reason}); check the credentials and what they "
            "are allowed to do there"
        )
    number = error.errno if isinstance(error, OSError) else None
    if number in _FATAL_ERRNO:
        return FatalError(f"{doing} {where}: {_FATAL_ERRNO[number]}")
    is_wrong = status in (_BAD_REQUEST, *_REDIRECTS) and code not in _PASSING_CODES
    if is_wrong or type(error).__name__ in _FATAL_NAMES:
        return FatalError(f"{doing} {where}: {reason}")
    return TransientError(f"{doing} {where}: {reason}")


def _response(error: Exception) -> tuple[str, int]:
    """Code and HTTP status that an S3 server answered; empty and 0 for every other failure."""
    answer: Any = None
    cause: BaseException | None = error
    while cause is not None and answer is None:
        answer, cause = getattr(cause, "response", None), cause.__cause__
    if not isinstance(answer, dict):
        return "", 0
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(answer.get("Error", {}).get("Code", "")), int(status)


def _reason(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    silent = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return " ".join(told.split()) or silent
