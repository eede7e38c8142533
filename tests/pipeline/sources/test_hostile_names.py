"""Entries, links and folders that no file system or store can have: each costs itself alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import RejectError, SpecError
from restyle.pipeline.sources import SourceReader
from tests.pipeline.sources.listing import listed

GOOD = b"a photograph"


ENTRIES = {
    "http://[::1/x": "it is no address",
    "https://host:99999/x": "it is no address",
    "http:///x.jpg": "names no host",
    "http://": "names no host",
    "s3:///k": "names no bucket",
    "s3://": "names no bucket",
    "s3://Bad Bucket!/k": "no bucket can have this name",
    "s3://" + "b" * 300 + "/k": "no bucket can have this name",
    "s3://arn:aws:s3:us-east-1:1:accesspoint/x/k": "no bucket can have this name",
    "s3://made-up--use1-az9--x-s3/k": "directory buckets",
    "s3://bucket": "it is a bucket",
    "s3://bucket/" + "k" * 1025: "longer than 1,024 bytes",
    "s3://bucket/" + "é" * 513: "longer than 1,024 bytes",
    "http://host/" + "x" * 40_000: "longer than 32,768",
    "x" * 40_000: "longer than 32,768",
    "reference://": "they stand for files elsewhere",
    "zip://a.jpg": "they stand for files elsewhere",
    "simplecache::http://host/a.jpg": "no such kind of address",
    "no such/scheme://x": "no such kind of address",
    "gs://bucket/k.jpg": "install gcsfs",
    "\ud800://": "no such kind of address",
}


def write_list(path: Path, entries: list[str]) -> Path:
    """As Parquet, which takes entries of any length and with any character but surrogates."""
    names = [entry.encode("utf-8", "replace").decode() for entry in entries]
    pq.write_table(pa.table({"uri": pa.array(names, pa.string())}), path)
    return path


def test_entries_that_name_nothing_are_rejects_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes(GOOD)
    listing = write_list(tmp_path / "list.parquet", ["good.jpg", *ENTRIES, "good.jpg"])
    first, *images, last = listed(listing)
    assert first == last
    assert SourceReader(str(listing)).read(first) == GOOD
    assert len({image.image_id for image in images}) == len(ENTRIES)
    for image, (entry, said) in zip(images, ENTRIES.items(), strict=True):
        assert image.fault.startswith("unreadable|"), entry[:50]
        assert said in image.fault
        assert len(image.fault) < 300


UNREADABLE = [
    "dbfs://x/y.jpg",
    "ftp://host.invalid/a.jpg",
    "sftp://host.invalid/a.jpg",
    "webhdfs://host.invalid:1/a.jpg",
    "github://a",
    "http://host.invalid/a.jpg",
    "/" + "long/" * 1200 + "a.jpg",
    "x" * 300 + ".jpg",
]


@pytest.mark.parametrize("entry", UNREADABLE, ids=lambda entry: entry[:20])
def test_what_cannot_be_read_is_a_reject_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.setenv("RESTYLE_RETRIES", "2:0.001")
    listing = write_list(tmp_path / "list.parquet", ["x.jpg", entry])
    image = listed(listing)[1]
    if image.fault:
        # Its package is not installed here.
        assert "install" in image.fault
        return
    with pytest.raises((OSError, RejectError), match=r"."):
        SourceReader(str(listing)).read(image)


def test_shards_that_a_list_names_where_there_are_none(tmp_path: Path) -> None:
    entries = ["dbfs://x/a.tar", "http://host.invalid/a.parquet", "/none/a.tar", "x" * 300 + ".tar"]
    (tmp_path / "good.jpg").write_bytes(GOOD)
    *images, good = listed(write_list(tmp_path / "list.parquet", [*entries, "good.jpg"]))
    assert [image.fault.partition("|")[0] for image in images] == ["unreadable"] * len(entries)
    assert not good.fault


def test_a_list_of_which_a_package_would_make_something_is_told(tmp_path: Path) -> None:
    listing = write_list(tmp_path / "list.parquet", ["gs://b/1.jpg", "http://[", "gs://b/2.jpg"])
    with pytest.raises(SpecError, match=r"the list names gs:// addresses: .*install gcsfs"):
        listed(listing)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    (made / "good.jpg").write_bytes(GOOD)
    return made


def tangle(folder: Path) -> dict[str, str]:
    """Links that lead nowhere, by name, and what reading them must say."""
    (folder / "self").symlink_to("self")
    (folder / "ping").symlink_to("pong")
    (folder / "pong").symlink_to("ping")
    (folder / "far.jpg").symlink_to("x" * 300)
    (folder / "gone.jpg").symlink_to("/no/such/file")
    (folder / "through.jpg").symlink_to("good.jpg/x")
    loop = "Too many levels of symbolic links"
    return {
        **dict.fromkeys(("self", "ping", "pong"), loop),
        "far.jpg": "File name too long",
        "gone.jpg": "No such file",
        "through.jpg": "Not a directory",
    }


@pytest.mark.parametrize("pattern", ["", "/*", "/**", "/**/*"])
def test_links_that_lead_nowhere(folder: Path, pattern: str) -> None:
    said = tangle(folder)
    images = {Path(os.fsdecode(image.uri)).name: image for image in listed(f"{folder}{pattern}")}
    assert set(images) == {"good.jpg", *said}
    reader = SourceReader(str(folder))
    assert reader.read(images["good.jpg"]) == GOOD
    for name, message in said.items():
        with pytest.raises(OSError, match=message):
            reader.read(images[name])


def test_a_link_that_leads_nowhere_as_the_only_input(folder: Path) -> None:
    tangle(folder)
    for name in ("self", "far.jpg", "x" * 300):
        with pytest.raises(SpecError, match="does not exist; correct INPUT"):
            listed(folder / name)


@pytest.fixture
def removed(folder: Path) -> Iterator[None]:
    """The folder ends with the test, also with one that fails: pytest recurses to remove it."""
    yield
    subprocess.run(["rm", "-rf", folder / "d"], check=True)


@pytest.mark.usefixtures("removed")
@pytest.mark.parametrize("pattern", ["", "/**", "/**/*.jpg"])
def test_folders_that_no_path_reaches(
    folder: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders in one another, each made from within the last; deeper than recursion goes, too."""
    monkeypatch.chdir(folder)
    for _ in range(2100):
        os.mkdir("d")  # noqa: PTH102
        os.chdir("d")
    Path("deep.jpg").write_bytes(b"x")
    monkeypatch.chdir(folder)
    images = listed(f"{folder}{pattern}")
    with pytest.raises(OSError, match="File name too long"):
        SourceReader(str(folder)).read(images[0] if "good" not in images[0].source else images[1])
    good = [image for image in images if not image.fault and image.source.endswith("good.jpg")]
    assert SourceReader(str(folder)).read(good[0]) == GOOD
    others = [image for image in images if image not in good]
    assert len(others) == 1
    assert len(others[0].uri) > 4000
