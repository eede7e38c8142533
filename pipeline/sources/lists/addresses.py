"""Check which remote addresses a list entry may have, without contacting any store."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

LONGEST = 32_768
"""Maximum length of an entry in characters."""

LOCAL = ("file", "local")
_WEB = ("http", "https")
_S3 = "s3"
_SPELLINGS = {"s3a": "s3", "gcs": "gs"}

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
# Bucket names that botocore accepts; it rejects others only when an object is requested.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
# Suffixes of bucket names that determine the host, so that a non-existent bucket looks like an
# unreachable store.
_BUCKET_HOSTS = ("--x-s3", "--op-s3")
_LONGEST_KEY = 1024

# File systems that wrap another one, which an address alone cannot specify.
_WRAPPERS = frozenset(
    {
        *("async_wrapper", "asyncwrapper", "asynclocal", "blockcache", "cached", "dask", "dir"),
        *("filecache", "generic", "git", "libarchive", "pyscript", "reference", "root"),
        *("simplecache", "tar", "zip"),
    }
)


def known_scheme(spelled: str) -> tuple[str, str]:
    """Return the normalised scheme, and why no entry can use it (empty if entries can)."""
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
        # A ValueError for an unknown scheme, or any error from a package that cannot be loaded.
        return "", "no such kind of address is known"
    return scheme, ""


def fault_of(scheme: str, rest: str) -> str:
    """Return why an address is invalid; empty if it is valid.

    Args:
        scheme: scheme as normalised by :func:`known_scheme`.
        rest: the part after ``://``.
    """
    if len(rest) > LONGEST:
        return f"the address is longer than {LONGEST:,} characters"
    if scheme == _S3:
        bucket, _, key = rest.partition("/")
        return fault_of_bucket(bucket) or _fault_of_key(key)
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        # Raises ValueError for an invalid port.
        _ = parts.port
    except ValueError as error:
        return f"it is no address: {error}"
    if scheme in _WEB and not parts.hostname:
        return "it is no address: it names no host"
    return ""


def fault_of_bucket(bucket: str) -> str:
    """Return why a name is no valid S3 bucket name; empty if it is valid."""
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
    # A character has at most four bytes in UTF-8, so short keys need not be encoded.
    if 4 * len(key) > _LONGEST_KEY and len(key.encode()) > _LONGEST_KEY:
        return f"no name in a bucket is longer than {_LONGEST_KEY:,} bytes"
    return ""
