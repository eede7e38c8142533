from __future__ import annotations

import glob
import hashlib
import os
import tracemalloc
from pathlib import Path

import fsspec
import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.sources import BATCH, SourceReader, catalog, iter_images
from restyle.pipeline.sources.formats import text_lists
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage
from tests.pipeline.sources.tars import packed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ["b.jpg", "a.jpg", "deep/er/a.jpg", "notes.png", ".hidden.jpg", ".cache/x.jpg"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def list_images(source: str, out: str) -> list[SourceImage]:
    """Every input once, in the order of the stream."""
    batches = iter_images(source, out, InputOptions())
    return list({image.image_id: image for batch in batches for image in batch}.values())


def names(images: list, root: Path) -> list[str]:
    return [os.path.relpath(image.source, root) for image in images]


def test_a_folder_is_every_regular_file_below_it_once_in_order(folder: Path) -> None:
    images = list_images(str(folder), str(folder.parent / "out"))
    assert names(images, folder) == ["a.jpg", "b.jpg", "deep/er/a.jpg", "notes.png"]
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
        ("*", ["a.jpg", "b.jpg", "deep/er/a.jpg", "notes.png"]),
        ("**", ["a.jpg", "b.jpg", "deep/er/a.jpg", "notes.png"]),
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
    assert sorted(found) == ["a.jpg", "b.jpg", "dangling.jpg", "linked/a.jpg", "notes.png"] or (
        sorted(found) == ["a.jpg", "b.jpg", "dangling.jpg", "deep/er/a.jpg", "notes.png"]
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
    expected = ["a.jpg", "b.jpg", "deep/er/a.jpg", "notes.png"]
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


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folders = ["a", "a.b", "a/b", "a/.h", "b", "[c]", "a/b/c/d"]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in ["1.jpg", "10.jpg", "2.png", ".x.jpg", "a"]:
            if not (tmp_path / folder / name).is_dir():
                (tmp_path / folder / name).touch()
    return tmp_path


PATTERNS = [
    "*",
    "**",
    "*/*.jpg",
    "**/*.jpg",
    "a/**/1.jpg",
    "a*/[12].*",
    "**/b",
    "?/?.jpg",
    "[[]c]/*",
]


@pytest.mark.parametrize(
    "pattern", [*PATTERNS, "a/.h/*", "*/.*", "**/d/../1.jpg", "x/**", "**/b/**"]
)
def test_patterns_match_what_the_standard_library_matches(tree: Path, pattern: str) -> None:
    expected = set()
    for match in glob.glob(os.path.normpath(f"{tree}/{pattern}"), recursive=True):  # noqa: PTH207
        folder = Path(match)
        below = [each for each in folder.rglob("*") if each.is_file()]
        hidden = [e for e in below if any(p.startswith(".") for p in e.relative_to(folder).parts)]
        expected |= {str(each) for each in below if each not in hidden} or {match}
    expected = {each for each in expected if Path(each).is_file()}
    try:
        found = [image.source for image in list_images(f"{tree}/{pattern}", "/out")]
    except SpecError:
        found = []
    assert set(found) == expected
    assert len(found) == len(expected)


def test_the_stream_is_in_the_order_of_paths(tree: Path) -> None:
    uris = [image.uri for image in list_images(str(tree), "/out")]
    assert uris == sorted(uris)
    assert len(uris) == 24


@pytest.mark.parametrize(
    "pattern", ["d*/*.jpg", "**/a.jpg", "*", "**", "d*", "[b-z]*/*/?.jpg", "x*"]
)
def test_remote_patterns_match_what_fsspec_matches(pattern: str) -> None:
    files = fsspec.filesystem("memory")
    root = "/patterns-test"
    for name in ["a.jpg", "b.png", "deep/a.jpg", "deep/er/a.jpg", "deep/er/x/y.jpg", "e/.h/a.jpg"]:
        files.pipe_file(f"{root}/{name}", b"x")
    expected = set()
    for name, entry in files.glob(f"{root}/{pattern}", detail=True).items():
        expected |= {name} if entry["type"] == "file" else set(files.find(name))
    try:
        found = list_images(f"memory:/{root}/{pattern}", "/out")
    except SpecError:
        found = []
    shown = sorted(image.source.removeprefix("memory://") for image in found)
    assert shown == sorted(name for name in expected if "/.h" not in name)


def test_batches_hold_one_container_or_files(tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(packed([(f"{at}.jpg", b"x") for at in range(5000)]))
    (tmp_path / "d.tar").write_bytes(packed([("1.jpg", b"x")]))
    for name in ["a.jpg", "c.jpg", "c.tar.gz", "e.TAR"]:
        (tmp_path / name).write_bytes(b"x")
    batches = list(iter_images(str(tmp_path), "/out", InputOptions()))
    assert [len(batch) for batch in batches] == [1, 5000, 2, 1, 1]
    assert [sorted({Path(os.fsdecode(i.uri)).name for i in batch}) for batch in batches] == [
        *(["a.jpg"], ["b.tar"], ["c.jpg", "c.tar.gz"]),
        *(["d.tar"], ["e.TAR"]),
    ]
    assert batches[2][1].fault.startswith("unsupported_archive|a compressed archive")
    assert batches[4][0].fault.startswith("damaged_archive|")


def test_many_files_come_in_batches_of_bounded_size(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"s3://b/{at}\n" for at in range(2 * BATCH + 5)))
    stream = iter_images(str(tmp_path / "a.txt"), "/out", InputOptions())
    assert [len(batch) for batch in stream] == [BATCH, BATCH, 5]


def test_known_containers_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(packed([("1.jpg", b"x")]))
    (tmp_path / "b.tar").write_bytes(b"not even a tar, but who looks")
    (tmp_path / "c.jpg").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("a.tar\nb.tar\n")
    version = str((tmp_path / "b.tar").stat().st_mtime_ns)
    asked = []

    def known(uri: bytes, version: str) -> bool:
        asked.append((uri, version))
        return uri.endswith(b"b.tar")

    options = InputOptions()
    found = [image for batch in iter_images(str(tmp_path), "/o", options, known) for image in batch]
    assert [Path(i.source).name for i in found] == ["a.tar::1.jpg", "c.jpg"]
    assert (f"file://{tmp_path}/b.tar".encode(), version) in asked
    assert len(asked) == 2
    # A known container is not nothing.
    assert list(iter_images(str(tmp_path / "b.tar"), "/o", options, known)) == []
    (batch,) = iter_images(str(tmp_path / "list.txt"), "/o", options, known)
    assert [Path(i.source).name for i in batch] == ["a.tar::1.jpg"]


def test_a_format_that_is_given_holds_for_every_file(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(packed([("1.jpg", b"x")]))
    (tmp_path / "x.tar").write_bytes(packed([("2.jpg", b"x")]))
    stream = iter_images(str(tmp_path), "/out", InputOptions("tar"))
    assert [[Path(i.source).name for i in batch] for batch in stream] == [
        ["shard::1.jpg"],
        ["x.tar::2.jpg"],
    ]
    (batch,) = iter_images(str(tmp_path), "/out", InputOptions("files"))
    assert [image.place for image in batch] == ["", ""]


def peak_of_listing(source: Path, expected: int) -> int:
    """Most bytes that listing held at a time."""
    tracemalloc.start()
    listed = sum(len(batch) for batch in iter_images(str(source), "/out", InputOptions()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert listed == expected
    return peak


@pytest.mark.usefixtures("direct_shards")
def test_memory_of_listing_does_not_grow_with_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = 100
    monkeypatch.setattr(catalog, "BATCH", batch)
    monkeypatch.setattr(text_lists, "_BUFFER", 1 << 13)
    monkeypatch.setattr(text_lists, "_AT_ONCE", batch)
    for folder in range(20):
        (tmp_path / "few" / f"{folder:02d}").mkdir(parents=True)
        (tmp_path / "many" / f"{folder:02d}").mkdir(parents=True)
        for name in range(100):
            (tmp_path / "many" / f"{folder:02d}" / f"{name}.jpg").touch()
            if folder < 4:
                (tmp_path / "few" / f"{folder:02d}" / f"{name}.jpg").touch()
    for name, lines in (("few", 2000), ("many", 20_000)):
        text = "".join(f"s3://bucket/folder/{at}.jpg\n" for at in range(lines))
        (tmp_path / f"{name}.txt").write_text(text)
    peak_of_listing(tmp_path / "few.txt", 2000)  # whatever is imported only now
    for kind, few, many in (("", 400, 2000), (".txt", 2000, 20_000)):
        small = peak_of_listing(tmp_path / f"few{kind}", few)
        large = peak_of_listing(tmp_path / f"many{kind}", many)
        assert large < 1.3 * small
        # About two batches, the one that is used and the one that is made.
        assert large < 4000 * batch


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
