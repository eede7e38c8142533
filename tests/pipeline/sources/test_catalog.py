from __future__ import annotations

import hashlib
import os
from pathlib import Path

import fsspec
import pytest

from pipeline.sources import SourceReader, list_images
from restyle_core.errors import FatalError, SpecError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ["b.jpg", "a.jpg", "deep/er/a.jpg", "notes.txt", ".hidden.jpg", ".cache/x.jpg"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def names(images: list, root: Path) -> list[str]:
    return [os.path.relpath(image.source, root) for image in images]


def test_a_folder_is_every_regular_file_below_it_once_in_order(folder: Path) -> None:
    images = list_images(str(folder), str(folder.parent / "out"))
    assert names(images, folder) == ["a.jpg", "b.jpg", "deep/er/a.jpg", "notes.txt"]
    assert [image.size for image in images] == [5, 5, 13, 9]
    assert images == list_images(f"{folder}/", "elsewhere")


def test_identity_is_a_hash_of_the_uri_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (image,) = list_images(str(folder / "a.jpg"), "out")
    uri = f"file://{folder}/a.jpg".encode()
    assert image.image_id == hashlib.blake2b(uri, digest_size=16).hexdigest()
    assert len(image.image_id) == 32
    (folder / "a.jpg").write_bytes(b"changed")
    (again,) = list_images(str(folder / "a.jpg"), "out")
    assert again.image_id == image.image_id
    assert (again.size, again.version) != (image.size, image.version)
    monkeypatch.chdir(folder)
    for spelling in ("a.jpg", "./deep/../a.jpg", f"file://{folder}/a.jpg"):
        (same,) = list_images(spelling, "/out")
        assert same == again


def test_equal_names_in_different_folders_are_different_images(folder: Path) -> None:
    images = list_images(f"{folder}/**/a.jpg", "out")
    assert names(images, folder) == ["a.jpg", "deep/er/a.jpg"]
    assert len({image.image_id for image in images}) == 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("*", ["a.jpg", "b.jpg", "deep/er/a.jpg", "notes.txt"]),
        ("**", ["a.jpg", "b.jpg", "deep/er/a.jpg", "notes.txt"]),
        ("d*p", ["deep/er/a.jpg"]),
        ("[ab].jpg", ["a.jpg", "b.jpg"]),
    ],
)
def test_globs(folder: Path, pattern: str, expected: list[str]) -> None:
    assert names(list_images(f"{folder}/{pattern}", "out"), folder) == expected


def test_a_name_with_the_signs_of_a_glob_is_taken_literally(folder: Path) -> None:
    (folder / "a[1].jpg").write_bytes(b"x")
    assert names(list_images(f"{folder}/a[1].jpg", "out"), folder) == ["a[1].jpg"]


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"bytes")
    (image,) = list_images(str(tmp_path), "out")
    assert image.uri == b"file://" + raw
    assert image.source == f"{tmp_path}/caf\\xe9.jpg"
    assert image.source.encode()
    assert SourceReader(str(tmp_path)).read(image) == b"bytes"


def test_links_are_followed_but_not_in_circles(folder: Path) -> None:
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "linked").symlink_to(folder / "deep" / "er")
    (folder / "dangling.jpg").symlink_to(folder / "gone.jpg")
    os.mkfifo(folder / "pipe")
    found = names(list_images(str(folder), "out"), folder)
    # deep/er and linked are one folder; a dangling link is an input that cannot be read.
    assert sorted(found) == ["a.jpg", "b.jpg", "dangling.jpg", "linked/a.jpg", "notes.txt"] or (
        sorted(found) == ["a.jpg", "b.jpg", "dangling.jpg", "deep/er/a.jpg", "notes.txt"]
    )


def test_the_output_is_no_input(folder: Path) -> None:
    before = names(list_images(str(folder), str(folder / "out")), folder)
    for name in ["out/run.json", "out/latents/part.parquet", "out/odd.txt"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert names(list_images(str(folder), str(folder / "out")), folder) == before
    assert names(list_images(f"{folder}/**", str(folder / "out")), folder) == before


def test_an_output_around_the_input_hides_only_what_was_written(folder: Path) -> None:
    (folder / "latents").mkdir()
    (folder / "latents" / "part.parquet").write_bytes(b"x")
    (folder / "report.html").write_bytes(b"x")
    expected = ["a.jpg", "b.jpg", "deep/er/a.jpg", "notes.txt"]
    assert names(list_images(str(folder), str(folder)), folder) == expected


@pytest.mark.parametrize("name", ["missing", "missing/*.jpg", "empty"])
def test_no_input_is_an_error_in_one_line(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SpecError, match=r"correct INPUT") as caught:
        list_images(str(folder / name), "out")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(folder: Path) -> None:
    (folder / "deep").chmod(0)
    try:
        with pytest.raises(FatalError, match="permission denied"):
            list_images(str(folder), "out")
    finally:
        (folder / "deep").chmod(0o755)


def test_remote_folders_globs_and_files() -> None:
    files = fsspec.filesystem("memory")
    for name in ["a.jpg", "deep/a.jpg", "deep/.hidden", "out/run.json", "out/x.jpg"]:
        files.pipe_file(f"/sources-test/{name}", name.encode())
    root = "memory://sources-test"
    images = list_images(root, f"{root}/out")
    assert [image.source.partition("sources-test/")[2] for image in images] == [
        "a.jpg",
        "deep/a.jpg",
    ]
    assert SourceReader(root).read(images[1]) == b"deep/a.jpg"
    (one,) = list_images(f"{root}/deep/a.jpg", "out")
    assert one.image_id == images[1].image_id
    (globbed,) = list_images(f"{root}/d*/*.jpg", "out")
    assert globbed.image_id == images[1].image_id
    with pytest.raises(SpecError, match="correct INPUT"):
        list_images(f"{root}/missing", "out")
