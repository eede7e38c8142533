"""Which hosts an entry of a list may lead to: none of this machine's or of its network, by default.

Whoever writes a list, or a page that a web server redirects to, could otherwise have services
asked that trust everybody within a network, such as those that give out credentials.
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

# What stands where a host would is a bucket, a container or a repository: the host is chosen by
# the environment.
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
"""As ``socket.getaddrinfo`` gives them."""


@dataclass(frozen=True)
class UrlPolicy:
    """Where addresses may lead.

    Attributes:
        allow_private: to this machine and its network, too.
        own: the address that the user named in this command, whose host is allowed whatever it is;
            empty for none.
    """

    allow_private: bool = False
    own: str = ""

    def allows(self, url: str) -> bool:
        """Whether an address may lead anywhere."""
        return self.allow_private or (bool(self.own) and _host_of(url) == _host_of(self.own))


def is_private(address: str) -> bool:
    """Whether an IP address is none of the public internet's.

    Addresses that stand for an IPv4 address within IPv6 are taken for that one.
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
    """A socket for an address that a name has led to, as aiohttp wants it; asked at each hop.

    Raises:
        OSError: the address is private.
    """
    family, kind, protocol, _, address = info
    if is_private(address[0]):
        raise OSError(errno.EACCES, REFUSED)
    return socket.socket(family, kind, protocol)


def check_host(uri: str, policy: UrlPolicy) -> None:
    """Refuse an address that leads to a private host, unless it is of the web or of a bucket.

    Raises:
        SpecError: it does.
    """
    parts = urlsplit(uri)
    if parts.scheme in _WITHOUT_HOST or not parts.hostname or policy.allows(uri):
        return
    try:
        found = socket.getaddrinfo(parts.hostname, None)
    except OSError:
        # Whoever opens it says so.
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
