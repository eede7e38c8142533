"""Paths and URIs: local and remote ones, opening, and display without secrets.

Displayed and recorded addresses contain no secrets, see
:mod:`~restyle.pipeline.storage.url_secrets`.
"""

from __future__ import annotations

import os
from typing import Any

from restyle.core.errors import SpecError
from restyle.core.shown_text import decodable
from restyle.pipeline.storage.url_secrets import secret_in, without_secrets

TIMEOUT_VARIABLE = "RESTYLE_STORAGE_TIMEOUT"
"""Environment variable: seconds until a request without an answer fails; default 60."""

_TIMEOUT = 60.0
_CONNECT_TIMEOUT = 10.0
# The client retries single requests; the number of calls is limited in retries.py.
_ATTEMPTS = 2

_S3 = ("s3", "s3a")


def local_path(uri: str) -> str | None:
    """The path of a plain path or ``file://`` URI; None for remote URIs."""
    for prefix in ("file://", "local://"):
        if uri.startswith(prefix):
            return uri.removeprefix(prefix) or "/"
    return None if "://" in uri else uri


def open_filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a remote URI, and the path in it.

    Raises:
        SpecError: the scheme is unknown, a package is missing, or the URI contains a secret.
    """
    from fsspec.core import url_to_fs

    shown = shown_uri(uri)
    found = secret_in(uri)
    if found == "password":
        raise SpecError(
            f"{shown}: leave the password out of the address; give it through the environment, it "
            "would be recorded otherwise"
        )
    if found == "query":
        raise SpecError(
            f"{shown}: signed or parametrised links are not supported; use an address without a "
            "query"
        )
    scheme = uri.partition("://")[0].lower()
    try:
        filesystem, path = url_to_fs(uri, use_listings_cache=False, **_options(scheme))
    except ImportError as error:
        raise SpecError(f"{shown}: {error}") from error
    except ValueError as error:
        raise SpecError(f"{shown} is no address that fsspec knows: {error}") from error
    if scheme in _S3:
        filesystem.retries = 1
    return filesystem, str(path)


def absolute_path(path: str) -> str:
    """Make a local path absolute and normalised, without resolving links."""
    return os.path.abspath(path)  # noqa: PTH100 (Path.resolve would follow links)


def absolute_uri(uri: str) -> str:
    """An address that does not depend on the working directory."""
    path = local_path(uri)
    return uri if path is None else absolute_path(path)


def shown_uri(uri: str) -> str:
    r"""An address for display and records, without secrets and in UTF-8.

    Args:
        uri: a path or any URI. Bytes of a local name that are not UTF-8 become ``\xNN``.
    """
    return decodable(without_secrets(uri)[0])


def storage_timeout() -> float:
    """Timeout of requests in seconds.

    Raises:
        SpecError: the environment variable is not a positive number.
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
        # Otherwise the size of every object is requested before it is read.
        "max_concurrency": 1,
    }
