"""Which addresses are private, however they are spelled, and which policies let them pass."""

from __future__ import annotations

import socket

import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.sources.web.private_hosts import UrlPolicy, check_host, is_private

PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255"),  # noqa: S104
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.1", "198.18.0.1", "224.0.0.1"),
    *("240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1%eth0", "fc00::1", "fd12::1"),
    *("ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "2002:a00:1::", "2001:db8::1"),
]
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "169.253.1.1", "11.0.0.1"),
    *("2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert not is_private(address)


def test_only_the_host_that_was_named_is_the_user_s_own() -> None:
    policy = UrlPolicy(own="http://Localhost:8000/lists/a.txt")
    for url in ("http://localhost:8000/x.jpg", "https://LOCALHOST:8000/"):
        assert policy.allows(url)
    for url in (
        "http://localhost/x",
        "http://localhost:8001/",
        "http://127.0.0.1:8000/",
        "http://[",
    ):
        assert not policy.allows(url)
    assert not UrlPolicy().allows("http://host/")
    assert not UrlPolicy(own="/local/folder").allows("http://host/")
    assert UrlPolicy(allow_private=True).allows("http://127.0.0.1/")
    assert UrlPolicy(own="https://host/list.txt").allows("https://host:443/x")


@pytest.mark.parametrize(
    "uri", ["ftp://localhost/a.jpg", "sftp://127.0.0.1/a", "webhdfs://[::1]:80/a", "smb://0x7f.1/a"]
)
def test_other_addresses_with_hosts(uri: str) -> None:
    with pytest.raises(SpecError, match="--allow-private-urls"):
        check_host(uri, UrlPolicy())
    check_host(uri, UrlPolicy(allow_private=True))
    check_host(uri, UrlPolicy(own=uri))


def test_names_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A public name may be that of a private host; one of its addresses is enough."""

    def answered(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        found = ["8.8.8.8", "10.0.0.1"] if host == "inside.example" else ["8.8.8.8"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", answered)
    check_host("ftp://outside.example/a", UrlPolicy())
    with pytest.raises(SpecError):
        check_host("ftp://inside.example/a", UrlPolicy())


@pytest.mark.parametrize("uri", ["s3://localhost/k", "gs://127.0.0.1/k", "memory://localhost/x"])
def test_buckets_are_no_hosts(uri: str) -> None:
    check_host(uri, UrlPolicy())
