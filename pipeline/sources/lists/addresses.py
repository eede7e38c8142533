"""Which remote addresses an entry of a list may have; asked without asking any store."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

LONGEST = 32_768
"""Characters of an entry at most."""

LOCAL = ("file", "local")
_WEB = ("http", "https")
_S3 = "s3"
_SPELLINGS = {"s3a": "s3", "gcs": "gs"}

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
# What botocore accepts; it raises for the others only when it is asked for an object.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
# Buckets whose name decides which host is asked, so that a made-up one looks like a store that is
# down.
_BUCKET_HOSTS = ("--x-s3", "--op-s3")
_LONGEST_KEY = 1024

# File systems that stand for another one, which they are told in other ways than by an address.
_WRAPPERS = frozenset(
    {
        *("async_wrapper", "asyncwrapper", "asynclocal", "blockcache", "cached", "dask", "dir"),
        *("filecache", "generic", "git", "libarchive", "pyscript", "reference", "root"),
        *("simplecache", "tar", "zip"),
    }
)


def known_scheme(spelled: str) -> tuple[str, str]:
    """A scheme as this project spells it, and why no entry can have it (or an empty text)."""
    if not _SCHEME.fullmatch(spelled):
        return "", "no such kind of address is known"
    scheme = _SPELLINGS.get(spelled.lower(), spelled.lower())
    if scheme in LOCAL:
        return scheme, ""
    if scheme in _WRAPPERS:
        return scheme, f"{scheme}:// addresses: they stand for files elsewhere; name these"
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(scheme)
    except ImportError as error:
        return scheme, f"{scheme}:// addresses: {error}"
    except Exception:
        # A ValueError for one that is not known; whatever a package raises that cannot be loaded.
        return "", "no such kind of address is known"
    return scheme, ""


def fault_of(scheme: str, rest: str) -> str:
    """Why nothing can be at an address; empty when there may be something.

    Args:
        scheme: as :func:`known_scheme` spells it.
        rest: what follows ``://``.
    """
    if len(rest) > LONGEST:
        return f"the address is longer than {LONGEST:,} characters"
    if scheme == _S3:
        bucket, _, key = rest.partition("/")
        return fault_of_bucket(bucket) or _fault_of_key(key)
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        # Raises when it is no number, or none that a port can have.
        _ = parts.port
    except ValueError as error:
        return f"it is no address: {error}"
    if scheme in _WEB and not parts.hostname:
        return "it is no address: it names no host"
    return ""


def fault_of_bucket(bucket: str) -> str:
    """Why no S3 bucket can have this name; empty when one may."""
    if not bucket:
        return "it is no address: it names no bucket"
    if not _BUCKET.fullmatch(bucket):
        return "no bucket can have this name"
    if bucket.endswith(_BUCKET_HOSTS):
        return "directory buckets cannot stand in a list; name theirs as INPUT"
    return ""


def _fault_of_key(key: str) -> str:
    if not key:
        return "it is a bucket, not a file"
    # Characters have up to four bytes, so that short keys need not be encoded.
    if 4 * len(key) > _LONGEST_KEY and len(key.encode()) > _LONGEST_KEY:
        return f"no name in a bucket is longer than {_LONGEST_KEY:,} bytes"
    return ""
