"""Conversion of errors from file systems and object stores to this project's errors."""

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
    errno.EROFS: "the file system is read-only; name a place that can be written",
    errno.EACCES: "permission denied; give this user access, or name another place",
    errno.EPERM: "permission denied; give this user access, or name another place",
    errno.ENOTDIR: "a part of the path is a file, not a folder; correct the path",
    errno.EISDIR: "it is a folder; name a file",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EFBIG: "the file would be larger than is allowed; raise the limit (ulimit -f)",
}

# Exceptions of object stores' clients outside of the OSError tree that a retry does not help.
_FATAL_NAMES = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound"}
)

# S3 errors of correct requests that were corrupted in transit.
_PASSING_CODES = frozenset(
    {"RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
)
_SKEWED = "RequestTimeTooSkewed"
_BAD_REQUEST, _FORBIDDEN, _REDIRECTS = 400, 403, (301, 307)


@contextlib.contextmanager
def storage_errors(doing: str, where: str) -> Iterator[None]:
    """Convert exceptions of a file system to this project's errors, with one line.

    Args:
        doing: the failed action, such as ``cannot write``.
        where: the address, for the message.

    Raises:
        FileNotFoundError: unchanged.
        FatalError: a retry cannot help.
        TransientError: all other errors.
    """
    try:
        yield
    except (RestyleError, FileNotFoundError):
        raise
    except Exception as error:
        raise explained(error, doing, where) from error


def explained(error: Exception, doing: str, where: str) -> RestyleError:
    """Convert an exception of a file system; arguments as for :func:`storage_errors`."""
    code, status = _response(error)
    if code == _SKEWED:
        # Transient, because machines correct their clocks by themselves.
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
    """Error code and HTTP status of an S3 server's answer; empty and 0 for other failures."""
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
