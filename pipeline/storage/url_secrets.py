"""Detection and removal of secrets in addresses.

All addresses that are displayed, logged, recorded or submitted pass through
:func:`without_secrets`; addresses of users are refused if :func:`secret_in` finds a secret. Neither
raises for any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

Secret = Literal["password", "query"]
"""``password``: before the host; ``query``: signing query or fragment, any query of a web link."""

_WEB = frozenset({"http", "https"})
_LOCAL = frozenset({"file", "local"})
_WITH_PORTS = frozenset(
    {"http", "https", "ftp", "ftps", "sftp", "ssh", "smb", "hdfs", "webhdfs", "dask"}
)
"""Schemes with ports. In other schemes a colon before the path separates a key from its secret,
which
may contain any character: half of all AWS keys contain a slash."""

_CHAINED = frozenset({"zip", "tar", "libarchive", "dir", "reference", "git"})
"""File systems inside of another one, whose address follows ``::``."""

_AUTHORITY_END = re.compile("[/?#]")
_QUERY = re.compile("[?#;]")
_PORT = re.compile(r"(?:[^:\[\]]*|\[[0-9a-f:.%]*\]?)(?::\d{0,5})?", re.IGNORECASE | re.ASCII)
_NEXT_LINK = re.compile(r"::(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
_ARN = re.compile("arn:aws[a-z-]*:s3")

_SIGNING = (
    r"x-(?:amz|goog|oss|ms|cos)-[a-z-]+|(?:q-)?signature|sig|sas|awsaccesskeyid|googleaccessid|"
    r"ossaccesskeyid|key-pair-id|[a-z_-]*token|[a-z_-]*secret|[a-z_-]*api[_-]?key|"
    r"(?:aws_|secret_)?access_?key(?:_?id)?|auth|authorization|credentials?|"
    r"password|passwd|pass|pwd|(?:j|php)?sess(?:ion)?_?id|jwt|bearer"
)
_SIGNED = re.compile(rf"[?&;#]/?\s*(?:{_SIGNING})\s*=", re.IGNORECASE)
# Parameters that accompany a signature and change with it.
_PASSING = re.compile(rf"({_SIGNING}|expires|policy|s[eioprtv]|spr|sk[a-z]+)=.*", re.IGNORECASE)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[^\s'\"<>]+", re.IGNORECASE)
# Bounded, since a line may be made of nothing else.
_GIVEN = re.compile(r"""\b([\w-]{1,64})['"]?[ ]{0,3}[=:][ ]{0,3}['"]?[^\s'",;&]+""")
_NAME = re.compile(rf"(?:.*[_-])?(?:{_SIGNING})", re.IGNORECASE)


@dataclass(frozen=True)
class _Link:
    """One part of a chained fsspec address such as ``simplecache::s3://bucket/key``."""

    scheme: str
    user: str
    host: str
    path: str
    tail: str

    @property
    def has_password(self) -> bool:
        is_web = _kind(self.scheme) in _WEB
        return bool(self.user) and (is_web or _has_colon(self.user))

    @property
    def has_secret_tail(self) -> bool:
        kind = _kind(self.scheme)
        if kind in _LOCAL:
            return False
        if kind in _WEB and ("?" in self.tail or "=" in self.tail):
            return True
        return _is_signed(self.path + self.tail)

    def bare(self) -> str:
        """The link without its secrets."""
        user = f"{self.user}@" if self.user and not self.has_password else ""
        path, tail = self.path, self.tail
        if self.has_secret_tail:
            tail = ""
            # A session may be part of the path, as in ``/a;jsessionid=...``.
            if _is_signed(path):
                path = path.partition(";")[0]
            if _is_signed(path):
                path = ""
        return f"{self.scheme}://{user}{self.host}{path}{tail}"


def without_secrets(uri: str) -> tuple[str, bool]:
    """Remove secrets from an address; returns the address, and whether there were any.

    Secrets are passwords; user, query and fragments with values of web addresses; and signing
    queries and fragments of any address. Ambiguous parts count as secrets.

    Args:
        uri: any text; without ``://`` it is a path, which has no secrets.
    """
    links = _links(uri)
    if not any(link.has_password or link.has_secret_tail for link in links):
        return uri, False
    return "::".join(link.bare() for link in links), True


def text_without_secrets(text: str) -> str:
    """Any text, such as a line of a log, without what may be secret in it.

    Addresses lose what :func:`without_secrets` takes, and what is given a name that signs loses
    its value.
    """
    bare = _ADDRESS.sub(lambda found: without_secrets(found[0])[0], text)
    return _GIVEN.sub(lambda at: f"{at[1]}=..." if _NAME.fullmatch(at[1]) else at[0], bare)


def secret_in(uri: str) -> Secret | None:
    """The kind of the first secret of an address; None when there is none."""
    for link in _links(uri):
        if link.has_password:
            return "password"
        if link.has_secret_tail:
            return "query"
    return None


def lasting_part(uri: str) -> str:
    """The part of an address that identifies it and does not change when it is signed again.

    For hashing only: a query may contain unrecognised secrets.
    """
    bare, _ = without_secrets(uri)
    query = uri.partition("?")[2].partition("#")[0]
    lasting = [part for part in query.split("&") if part and not _PASSING.fullmatch(unquote(part))]
    return f"{bare}?{'&'.join(lasting)}" if lasting else bare


def _links(uri: str) -> list[_Link]:
    links = []
    rest = uri
    while "://" in rest:
        scheme, _, rest = rest.partition("://")
        user, rest = _credentials(scheme, rest)
        found = _NEXT_LINK.search(rest)
        link, rest = (rest[: found.start()], rest[found.end() :]) if found else (rest, "")
        links.append(_parted(scheme, user, link))
    return links


def _credentials(scheme: str, rest: str) -> tuple[str, str]:
    """The part before the host, which may be empty, and the rest from the host on."""
    kind = _kind(scheme)
    if kind in _LOCAL or (kind in _CHAINED and _NEXT_LINK.search(rest)):
        return "", rest
    end = _AUTHORITY_END.search(rest)
    authority = rest[: end.start()] if end else rest
    user, at, host = authority.rpartition("@")
    goes_on = "@" in rest[len(authority) :] and not _is_host(kind, host)
    if not (_has_colon(user) or goes_on):
        return user, rest[len(user + at) :]
    before, _, after = rest.rpartition("@")
    # Ambiguous, because a password may contain a question mark and a signature an @.
    return before, "" if _QUERY.search(before) else after


def _is_host(kind: str, text: str) -> bool:
    """Whether a text is a host, in which a colon does not separate a key from its secret."""
    if not _has_colon(text):
        return True
    if kind in _WITH_PORTS:
        return _PORT.fullmatch(text) is not None
    return _ARN.match(text) is not None


def _parted(scheme: str, user: str, link: str) -> _Link:
    end = _AUTHORITY_END.search(link)
    host, path = (link[: end.start()], link[end.start() :]) if end else (link, "")
    ends = [index for mark in "?#" if (index := path.find(mark)) >= 0]
    tail = min(ends, default=len(path))
    return _Link(scheme, user, host, path[:tail], path[tail:])


def _kind(scheme: str) -> str:
    return scheme.rpartition("::")[2].strip().lower()


def _is_signed(text: str) -> bool:
    return _SIGNED.search(unquote(text)) is not None


def _has_colon(text: str) -> bool:
    return ":" in unquote(text)
