"""Restrict the hosts that list entries may lead to; private hosts are refused by default.

The author of a list, or of a page that redirects, could otherwise make this machine send requests
to services that trust their whole network, such as those that issue credentials.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from restyle.core.errors import SpecError

REFUSED = (
    "the host is on this machine or in a private network, and lists may not lead there; "
    "--allow-private-urls allows it"
)

# In addresses of these schemes a bucket, container or repository takes the place of the host; the
# environment determines the host.
_WITHOUT_HOST = frozenset(
    {
        *("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "ocilake", "oss"),
        *("box", "data", "dropbox", "dvc", "gdrive", "gist", "github", "hf", "lakefs"),
        *("memory", "tos", "tosfs", "wandb"),
    }
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}


AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
"""An element of the result of ``socket.getaddrinfo``."""


@dataclass(frozen=True)
class UrlPolicy:
    """Policy for the hosts that addresses may lead to.

    Attributes:
        allow_private: whether hosts on this machine and in its private networks are allowed.
        own: address that the user named in the command, whose host is always allowed; empty for
            none.
    """

    allow_private: bool = False
    own: str = ""

    def allows(self, url: str) -> bool:
        """Return whether the policy lets an address lead to any host, private ones included."""
        return self.allow_private or (bool(self.own) and _host_of(url) == _host_of(self.own))


def is_private(address: str) -> bool:
    """Return whether an IP address is not on the public internet.

    An IPv6 address that embeds an IPv4 address is judged by the embedded address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        within = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if within is None and ip in _NAT64:
            within = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if within is not None:
            return is_private(str(within))
    return not ip.is_global or ip.is_multicast


def checked_socket(info: AddressInfo) -> socket.socket:
    """Return a socket for a resolved address; aiohttp calls this for every connection and redirect.

    Raises:
        OSError: the address is private.
    """
    family, kind, protocol, _, address = info
    if is_private(address[0]):
        raise OSError(errno.EACCES, REFUSED)
    return socket.socket(family, kind, protocol)


def check_host(uri: str, policy: UrlPolicy) -> None:
    """Check that an address does not lead to a private host.

    Addresses of buckets name no host and pass. Web addresses are checked on connection instead.

    Raises:
        SpecError: the address leads to a private host that the policy does not allow.
    """
    parts = urlsplit(uri)
    if parts.scheme in _WITHOUT_HOST or not parts.hostname or policy.allows(uri):
        return
    try:
        found = socket.getaddrinfo(parts.hostname, None)
    except OSError:
        # Opening the address reports this error.
        return
    if any(is_private(str(each[4][0])) for each in found):
        raise SpecError(REFUSED)


def _host_of(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return "", url, 0
    kind = "web" if parts.scheme in _PORTS else parts.scheme
    return kind, parts.hostname or "", port
