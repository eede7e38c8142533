"""Paths and URIs: which are local, how a remote one is opened, and how each may be shown.

Nothing that is shown or recorded carries the user name, password or query of a URI.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from restyle.core.errors import SpecError

TIMEOUT_VARIABLE = "RESTYLE_STORAGE_TIMEOUT"
"""Seconds after which a request that got no answer is given up; 60 when it is not set."""

_TIMEOUT = 60.0
_CONNECT_TIMEOUT = 10.0
# The client's own tries serve requests within a call; how long is waited in all is ours to say.
_ATTEMPTS = 2

_S3 = ("s3", "s3a")


def local_path(uri: str) -> str | None:
    """The path behind a plain path or ``file://`` URI; None for everything remote."""
    for prefix in ("file://", "local://"):
        if uri.startswith(prefix):
            return uri.removeprefix(prefix) or "/"
    return None if "://" in uri else uri


def open_filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a remote URI, and the URI's path in it.

    Raises:
        SpecError: an unknown scheme, a missing package, or a password or signature in the URI.
    """
    from fsspec.core import url_to_fs

    parts = urlsplit(uri)
    if parts.password is not None:
        raise SpecError(
            f"{shown_uri(uri)}: leave the password out of the address; give it through the "
            "environment, it would be recorded otherwise"
        )
    if parts.scheme in ("http", "https") and parts.query:
        raise SpecError(
            f"{shown_uri(uri)}: signed or parametrised links are not supported; use an address "
            "without a query"
        )
    try:
        filesystem, path = url_to_fs(uri, use_listings_cache=False, **_options(parts.scheme))
    except ImportError as error:
        raise SpecError(f"{shown_uri(uri)}: {error}") from error
    except ValueError as error:
        raise SpecError(f"{shown_uri(uri)} is no address that fsspec knows: {error}") from error
    if parts.scheme in _S3:
        filesystem.retries = 1
    return filesystem, str(path)


def absolute_path(path: str) -> str:
    """A local path made absolute and normalised; links stay, so that names stay the user's."""
    return os.path.abspath(path)  # noqa: PTH100 (Path.resolve would follow links)


def shown_uri(uri: str) -> str:
    r"""A URI without user name, password and query; plain paths come back as they are.

    Bytes of a local name that are no UTF-8 are shown as ``\xNN``.
    """
    readable = os.fsencode(uri).decode("utf-8", "backslashreplace")
    if "://" not in readable:
        return readable
    parts = urlsplit(readable)
    host = parts.netloc.rpartition("@")[2] if ":" in parts.netloc else parts.netloc
    query = parts.query if parts.scheme not in ("http", "https") else ""
    return urlunsplit((parts.scheme, host, parts.path, query, parts.fragment))


def storage_timeout() -> float:
    """Seconds that a store may take to answer.

    Raises:
        SpecError: the environment variable makes no sense.
    """
    given = os.environ.get(TIMEOUT_VARIABLE) or str(_TIMEOUT)
    try:
        timeout = float(given)
    except ValueError:
        timeout = 0.0
    if timeout <= 0:
        raise SpecError(f"{TIMEOUT_VARIABLE}={given} is no number of seconds")
    return timeout


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in _S3:
        return {}
    timeout = storage_timeout()
    return {
        "config_kwargs": {
            "connect_timeout": min(timeout, _CONNECT_TIMEOUT),
            "read_timeout": timeout,
            "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
        },
        # Otherwise every object is asked for its size before it is read.
        "max_concurrency": 1,
    }
