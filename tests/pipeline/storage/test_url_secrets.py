"""Secrets in addresses: found, removed, and nothing else with them."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from restyle.core.errors import SpecError
from restyle.jobs.spec.job_spec import JobSpec
from restyle.pipeline.execution.request import Request
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.storage.addresses import open_filesystem, shown_uri
from restyle.pipeline.storage.url_secrets import lasting_part, secret_in, without_secrets

MARK = "HUNTER2"

SCHEMES = ["s3", "S3A", "gs", "az", "http", "https", "ftp", "sftp", "hdfs", "no-such", "c::s3"]
PLACES = ["bucket/x.jpg", "host:8080/a b/c.jpg", "[::1]:80/x", "h", ""]

# A password may be any text; the mark is what must not be seen again.
passwords = st.builds(
    lambda before, after: f"{before}{MARK}{after}",
    st.text("abc/+=@:?#&%. é\n", max_size=6),
    st.text("abc/+=@:?#&%. é\n", max_size=6),
)
users = st.text("AKIAuser.+-=_@", max_size=8)


@given(st.sampled_from(SCHEMES), users, passwords, st.sampled_from(PLACES))
@example("s3", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" + MARK, "b/x.jpg")
@example("s3", "AKIA", "80/HUNTER2", "b/x.jpg")
@example("ftp", "me@corp.com", "a/HUNTER2", "host/x")
@example("https", "user", "a/b?c#HUNTER2", "host/x")
def test_no_password_is_left_whatever_it_is_made_of(
    scheme: str, user: str, password: str, place: str
) -> None:
    if scheme not in ("s3", "S3A", "gs", "az", "no-such", "c::s3"):
        # ``http://user:80/...@...`` is a host with a port, and a path.
        assume(not re.match(r"([^:@/?#]|@)*(:\d{0,5})?[/?#]", f"{user}:{password}"))
    uri = f"{scheme}://{user}:{password}@{place}"
    bare, found = without_secrets(uri)
    assert found
    assert secret_in(uri) == "password"
    assert MARK not in bare
    assert MARK not in shown_uri(uri)
    assert without_secrets(bare) == (bare, False)
    with pytest.raises(SpecError) as caught:
        open_filesystem(uri)
    assert MARK not in str(caught.value)


NAMES = [
    "access_token",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Goog-Signature",
    "x-oss-signature",
    "sig",
    "token",
    "AWSAccessKeyId",
    "GoogleAccessId",
    "Key-Pair-Id",
    "api_key",
    "apikey",
    "id_token",
    "client_secret",
    "password",
    "jsessionid",
]


@given(
    st.sampled_from(["s3", "https", "memory", "az", "simplecache::https", "zip://a.jpg::https"]),
    st.sampled_from(NAMES),
    st.sampled_from(["?", "#", "?a=b&", "#state=1&", "#/", ";", "?x;"]),
    st.text("abc/+=@:.%é", max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_no_signature_is_left_wherever_it_stands(
    scheme: str, name: str, mark: str, value: str, is_quoted: bool, is_upper: bool
) -> None:
    name = name.upper() if is_upper else name
    if is_quoted:
        name = "".join(f"%{ord(each):02x}" for each in name)
    uri = f"{scheme}://bucket/folder/x.jpg{mark}{name}={value}{MARK}"
    bare, found = without_secrets(uri)
    assert found
    assert MARK not in bare + shown_uri(uri)
    assert without_secrets(bare) == (bare, False)


@given(st.text())
@example("http://[::1")
@example("s3://[")
@example("\ud800://\udcff:x@")
def test_any_text_is_parsed_and_a_second_time_changes_nothing(text: str) -> None:
    for uri in (text, f"s3://{text}", f"https://{text}", f"{text}://{text}@{text}"):
        bare, found = without_secrets(uri)
        assert found == (secret_in(uri) is not None)
        assert found or bare == uri
        assert without_secrets(bare) == (bare, False)
        shown_uri(uri).encode()
        lasting_part(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://b/user@home/what?.jpg",
        "s3://b/12:30@home.jpg",
        "s3://b/a#b=c.jpg",
        "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/name/me@home.jpg",
        "https://host:8080/me@home.jpg",
        "https://medium.example/@user/a.jpg",
        "https://[::1]:8080/me@home.jpg",
        "https://host/a#b",
        "sftp://me@host/a.jpg",
        "sftp://me@host:22/a@b.jpg",
        "abfs://container@account.dfs.core.windows.net/a@b",
        "file:///home/me:x/a@b?token=c.jpg",
        "photos/me:x@b?token=c.jpg",
        "simplecache::s3://b/x.jpg",
        "zip://me@home.jpg::s3://b/x.zip",
    ],
)
def test_what_is_no_secret_stays(uri: str) -> None:
    assert without_secrets(uri) == (uri, False)


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("s3://AKIA:abc/def@bucket/x", "s3://bucket/x"),
        ("s3://AKIA%3aabc@bucket/x", "s3://bucket/x"),
        ("simplecache::s3://AKIA:abc/def@bucket/x", "simplecache::s3://bucket/x"),
        ("zip://a.jpg::s3://AKIA:abc/def@bucket/x.zip", "zip://a.jpg::s3://bucket/x.zip"),
        ("https://host/cb#access_token=abc&state=1", "https://host/cb"),
        ("https://host/a;jsessionid=abc", "https://host/a"),
        ("https://token@host/a", "https://host/a"),
        ("https://user:abc@host/x?sig=a@def", "https://"),
    ],
)
def test_what_is_left(uri: str, bare: str) -> None:
    assert without_secrets(uri) == (bare, True)


SECRET = [
    "s3://AKIA:abc/HUNTER2@bucket/x",
    "https://host/x#access_token=HUNTER2",
    "az://c/x?sv=1&sig=HUNTER2",
    f"https://host/x?{quote('X-Amz-Signature')}=HUNTER2",
    "s3://b/x?api_key=HUNTER2",
]


@pytest.mark.parametrize("uri", SECRET)
def test_nobody_takes_one(uri: str) -> None:
    """The specification, the storage, and the record of a run."""
    for values in (
        {"input": {"source": uri}, "output": {"out": "y"}},
        {"input": {"source": "x"}, "output": {"out": uri}},
    ):
        with pytest.raises(ValueError, match="leave the password or signature out") as caught:
            JobSpec.model_validate(values)
        assert MARK not in caught.value.errors()[0]["msg"]
    with pytest.raises(SpecError) as refused:
        open_filesystem(uri)
    assert MARK not in str(refused.value)
    request = Request(uri, uri, InversionSettings(model="faces64"), input=InputOptions())
    assert MARK not in request.recorded().model_dump_json()
