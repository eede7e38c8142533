"""Lists of URIs in text and CSV."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import fsspec
import pytest

from restyle.core.errors import SpecError
from restyle.core.shown_text import recorded
from restyle.pipeline.sources import SourceReader, iter_images
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.url_secrets import lasting_part, without_secrets
from tests.pipeline.sources.listing import AUTO, listed
from tests.pipeline.sources.tars import packed


def uris(images: list[SourceImage]) -> list[str]:
    return [image.uri.decode() for image in images]


def test_a_text_file_has_one_entry_on_each_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(
        b"\xef\xbb\xbfs3://b/one.jpg\r\n\r\n  \n s3://b/two three.jpg \nhttps://host/4.jpg\n"
        b"S3A://b/6@x#?.jpg\nlast, with comma.jpg"
    )
    noted: list[str] = []
    images = listed(tmp_path / "list.txt", notes=noted)
    assert uris(images) == [
        "s3://b/one.jpg",
        "s3://b/two three.jpg",
        "https://host/4.jpg",
        "s3://b/6@x#?.jpg",
        f"file://{tmp_path}/last, with comma.jpg",
    ]
    assert noted == ["passed over: 2 empty entries of lists"]
    identity = b"s3://b/one.jpg"
    assert images[0].image_id == hashlib.blake2b(identity, digest_size=16).hexdigest()


@pytest.mark.parametrize("name", ["a.txt", "a.list", "a.csv", "a.tsv", "a.TXT"])
def test_names_of_lists_that_input_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("url\ns3://b/1.jpg\n")
    expected = ["s3://b/1.jpg"]
    if name.lower().endswith((".txt", ".list")):
        expected.insert(0, f"file://{tmp_path}/url")
    assert uris(listed(tmp_path / name)) == expected
    # In a folder they are passed over, as notes and labels often lie there.
    (tmp_path / "photo.jpg").write_bytes(b"x")
    noted: list[str] = []
    assert uris(listed(tmp_path, notes=noted)) == [f"file://{tmp_path}/photo.jpg"]
    kind = Path(name).suffix.lower()
    assert noted == [
        f"passed over: 1 file that is no image ({kind} 1); name a list or table itself to read it"
    ]
    (tmp_path / "photo.jpg").unlink()
    assert uris(listed(tmp_path, InputOptions("list"))) == expected
    assert uris(listed(tmp_path / name, InputOptions("files"))) == [f"file://{tmp_path}/{name}"]


def test_entries_begin_at_the_folder_of_the_list(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"found")
    path = tmp_path / "lists" / "a.txt"
    path.write_text(f"../a.jpg\n./b.jpg\n{tmp_path}/a.jpg\nfile://{tmp_path}/a.jpg\n..\n")
    images = listed(path)
    assert uris(images)[:4] == [
        f"file://{tmp_path}/a.jpg",
        f"file://{tmp_path}/lists/b.jpg",
        f"file://{tmp_path}/a.jpg",
        f"file://{tmp_path}/a.jpg",
    ]
    assert len({image.image_id for image in images}) == 3
    assert images[0].size == 5
    assert images[0].version
    assert images[4].fault.startswith("unreadable|it is a folder")
    assert SourceReader(str(path)).read(images[0]) == b"found"


def test_entries_of_a_remote_list() -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/bucket/lists/a.txt", b"../x/1.jpg\n2.jpg\n../../../../3.jpg\n")
    files.pipe_file("/bucket/x/1.jpg", b"one")
    images = listed("memory://bucket/lists/a.txt")
    assert uris(images) == [
        "memory:///bucket/x/1.jpg",
        "memory:///bucket/lists/2.jpg",
        "memory:///3.jpg",
    ]
    assert SourceReader("memory://bucket/lists/a.txt").read(images[0]) == b"one"


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"bytes")
    (tmp_path / "a.txt").write_bytes(b"caf\xe9.jpg\ns3://b/caf\xe9.jpg\nnul\xc2\x80.jpg\n")
    images = listed(tmp_path / "a.txt")
    assert images[0].uri == b"file://" + raw
    assert SourceReader(str(tmp_path)).read(images[0]) == b"bytes"
    assert images[1].fault == "unreadable|the address is not in UTF-8"
    assert images[2].source.endswith("nul\\x80.jpg")


def test_csv_with_quotes_and_a_chosen_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b"\xef\xbb\xbfid,url,text\r\n"
        b'1,"s3://b/with, comma.jpg","a ""quoted""\nline"\r\n'
        b"2,s3://b/2.jpg,x\r\n3\r\n"
    )
    assert uris(listed(tmp_path / "a.csv")) == ["s3://b/with, comma.jpg", "s3://b/2.jpg"]
    (tmp_path / "two.csv").write_text("id,url,file\n1,s3://b/1.jpg,1.jpg\n")
    with pytest.raises(SpecError, match=r"several columns \(url, file\) .*choose one"):
        listed(tmp_path / "two.csv")
    (tmp_path / "none.csv").write_text("id,label\n1,a dog\n")
    with pytest.raises(SpecError, match=r"several columns \(id, label\), none .*choose one"):
        listed(tmp_path / "none.csv")
    noted: list[str] = []
    images = listed(tmp_path / "a.csv", InputOptions(column="url"), noted)
    assert uris(images) == ["s3://b/with, comma.jpg", "s3://b/2.jpg"]
    assert noted == ["passed over: 1 empty entry of lists"]
    with pytest.raises(SpecError, match=r"no column 'uri'; its columns are id, url, text"):
        listed(tmp_path / "a.csv", InputOptions(column="uri"))


def test_tables_of_one_column_need_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("s3://b/1.jpg\ns3://b/2.jpg\n")
    assert uris(listed(tmp_path / "a.csv")) == ["s3://b/1.jpg", "s3://b/2.jpg"]
    (tmp_path / "b.tsv").write_text("id\turl\n1\ts3://b/1, 2.jpg\n")
    assert uris(listed(tmp_path / "b.tsv", InputOptions(column="url"))) == ["s3://b/1, 2.jpg"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", b"\x00\x01\x02", "line 1 has zero bytes"),
        ("a.txt", "s3://b/1.jpg\n".encode("utf-16")[:-1], "line 1 is no UTF-16"),
        ("a.txt", "s3://b/1.jpg\0\n".encode("utf-16"), "line 1 has zero bytes"),
        ("a.txt", b"ok\n" + b"x" * 40_000, "line 2 is longer than 32,768"),
        ("a.csv", b'url\n"' + b"x\n" * 100_000, "is no CSV"),
        ("a.txt", b"", "holds no"),
        ("a.csv", b"url\n", "holds no"),
    ],
)
def test_what_is_no_list(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SpecError, match=said) as caught:
        listed(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_text_list_has_no_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x.jpg\n")
    with pytest.raises(SpecError, match="no columns"):
        listed(tmp_path / "a.txt", InputOptions(column="url"))


SECRETS = [
    "https://user:hunter2@host/a.jpg",
    "https://hunter2@host/a.jpg",
    "https://host/a.jpg?X-Amz-Signature=hunter2&X-Amz-Date=1",
    "https://host?sig=hunter2",
    "s3://key:hunter2@bucket/a.jpg",
    "S3A://bucket/a.jpg?X-Goog-Signature=hunter2",
    "memory://c/a.jpg?sv=1&sig=hunter2",
    "https://host/a.jpg?t=hunter2#x",
    "no-such-scheme://user:hunter2@host/x?sig=hunter2",
    "s3://key:abc/hunter2@bucket/a.jpg",
    "https://host/a.jpg#access_token=hunter2",
    "https://host/a.jpg?%74oken=hunter2",
    "simplecache::s3://key:abc/hunter2@bucket/a.jpg",
    f"s3://key:abc/hunter2@bucket/{'a' * 32_000}.jpg",
]


@pytest.mark.parametrize("entry", SECRETS)
def test_secrets_are_neither_kept_nor_shown(tmp_path: Path, entry: str) -> None:
    (tmp_path / "a.txt").write_text(f"{entry}\n")
    (image,) = listed(tmp_path / "a.txt")
    assert image.fault
    assert b"hunter2" not in image.uri
    assert "hunter2" not in image.source + image.fault
    assert "hunter2" not in repr(image)


def test_a_missing_package_is_said_before_anything_is_planned(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("gs://b/1.jpg\n")
    with pytest.raises(SpecError, match=r"the list names gs:// addresses: .*install gcsfs"):
        listed(tmp_path / "a.txt")


def test_links_signed_anew_are_the_same_input() -> None:
    once = "https://h/a.jpg?id=7&X-Amz-Signature=aa&X-Amz-Date=1&Expires=9"
    again = "https://h/a.jpg?id=7&X-Amz-Signature=bb&X-Amz-Date=2&Expires=8"
    assert lasting_part(once) == lasting_part(again) == "https://h/a.jpg?id=7"
    assert lasting_part(once) != lasting_part(once.replace("id=7", "id=8"))
    assert lasting_part("https://u:hunter2@h/a.jpg") == "https://h/a.jpg"


def test_harmless_addresses_stay_as_they_are() -> None:
    for uri in ["s3://b/user@home/what?.jpg", "s3://b/a#b", "sftp://me@host/a.jpg", "https://h/a"]:
        assert without_secrets(uri) == (uri, False)
    assert recorded("a b\tc\u2028\udcff") == "a b\\tc\\u2028\\xff"
    assert recorded("日本 é") == "日本 é"


def test_shards_in_a_list_are_opened_and_lists_are_not(tmp_path: Path) -> None:
    (tmp_path / "1.tar").write_bytes(packed([("a.jpg", b"a"), ("b.jpg", b"b")]))
    (tmp_path / "x.jpg").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("x.jpg\n1.tar\nx.jpg\n2.tar\na.txt\n")
    batches = list(iter_images(str(tmp_path / "a.txt"), "/out", AUTO))
    assert [[Path(image.source).name for image in batch] for batch in batches] == [
        ["x.jpg"],
        ["1.tar::a.jpg", "1.tar::b.jpg"],
        ["x.jpg", "2.tar", "a.txt"],
    ]
    assert batches[2][1].fault.startswith("unreadable|the file cannot be read: No such file")


def test_devices_in_a_list_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "a.txt").write_text("/dev/zero\npipe.jpg\npipe.tar\n/dev/zero.tar\n")
    os.mkfifo(tmp_path / "pipe.tar")
    assert [image.fault.partition("|")[0] for image in listed(tmp_path / "a.txt")] == [
        "unreadable"
    ] * 4
