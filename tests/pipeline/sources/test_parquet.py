"""Parquet files of images and of URIs."""

from __future__ import annotations

import hashlib
import io
import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import RejectError, RejectReason, SpecError
from restyle.pipeline.sources import SourceReader, iter_images
from restyle.pipeline.sources.formats import parquet_columns, parquet_rows
from restyle.pipeline.sources.options import InputOptions
from tests.pipeline.sources.listing import AUTO, listed

IMAGES = [b"%05d" % at * 40 for at in range(700)]


def write(path: Path, group: int = 300, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def test_rows_are_images(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", image=IMAGES, label=list(range(700)), text=["t"] * 700)
    images = listed(path)
    assert [image.source for image in images] == [f"{path}::row{at}" for at in range(700)]
    identity = f"file://{path}::row650".encode()
    assert images[650].image_id == hashlib.blake2b(identity, digest_size=16).hexdigest()
    assert images[650].place == "row:2:50:image"
    reader = SourceReader(str(path))
    assert [reader.read(image) for image in images] == IMAGES


@pytest.mark.usefixtures("direct_shards")
def test_rows_are_read_in_any_order_and_by_many_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "_BATCH_BYTES", 4000)
    monkeypatch.setattr(parquet_rows, "_KEPT_BYTES", 8000)
    images = listed(write(tmp_path / "a.parquet", image=IMAGES))
    reader = SourceReader(str(tmp_path))
    order = list(range(700))
    random.Random(3).shuffle(order)
    assert all(reader.read(images[at]) == IMAGES[at] for at in order)
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(reader.read, images)) == IMAGES


@pytest.mark.usefixtures("direct_shards")
def test_neighbours_asked_for_by_many_threads_cost_few_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = listed(write(tmp_path / "a.parquet", image=IMAGES, group=700))
    passes = []
    begin = parquet_rows.ParquetRows._batches

    def counted(self: parquet_rows.ParquetRows, group: int, column: str) -> object:
        passes.append(threading.get_ident())
        return begin(self, group, column)

    monkeypatch.setattr(parquet_rows.ParquetRows, "_batches", counted)
    reader = SourceReader(str(tmp_path))
    blocks = [images[start : start + 16] for start in range(0, 700, 16)]
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda block: [reader.read(image) for image in block], blocks))
    assert len(passes) == 1


@pytest.mark.usefixtures("direct_shards")
def test_a_large_row_group_is_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "_BATCH_BYTES", 1 << 20)
    monkeypatch.setattr(parquet_rows, "_KEPT_BYTES", 2 << 20)
    monkeypatch.setattr(parquet_columns, "_BUFFER", 1 << 20)
    data = random.Random(0).randbytes(1 << 16)
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(
        path,
        pa.schema({"image": pa.binary()}),
        compression="none",
        use_dictionary=False,
        data_page_size=1 << 18,
        write_batch_size=1,
    ) as writer:
        writer.write_table(pa.table({"image": [data] * 1024}), row_group_size=1024)
    assert pq.ParquetFile(path).metadata.row_group(0).total_byte_size > 64 << 20
    images = listed(path)
    reader = SourceReader(str(path))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    most = 0
    for image in images[::64]:
        assert reader.read(image) == data
        most = max(most, pa.total_allocated_bytes() - before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 12 << 20
    assert peak < 12 << 20


def test_structs_as_hugging_face_writes_them_and_nulls(tmp_path: Path) -> None:
    rows = [{"bytes": b"one", "path": "1.jpg"}, None, {"bytes": None, "path": "3.jpg"}]
    rows += [{"bytes": b"", "path": None}, {"bytes": b"five", "path": None}]
    images = listed(write(tmp_path / "a.parquet", group=2, image=rows, caption=["x"] * 5))
    reader = SourceReader(str(tmp_path))
    assert len(images) == 5
    assert [reader.read(images[at]) for at in (0, 3, 4)] == [b"one", b"", b"five"]
    for at in (1, 2):
        with pytest.raises(RejectError) as caught:
            reader.read(images[at])
        assert caught.value.reason is RejectReason.EMPTY


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())],
    ids=str,
)
def test_kinds_of_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array([b"a", b"b", b"a"]).cast(kind)
    images = listed(write(tmp_path / "a.parquet", image=column))
    reader = SourceReader(str(tmp_path))
    assert [reader.read(image) for image in images] == [b"a", b"b", b"a"]


def test_a_column_is_chosen_or_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", left=[b"l"], right=[b"r"], url=["s3://b/k"], n=[1])
    with pytest.raises(SpecError, match=r"several columns may hold the images \(left, right\)"):
        listed(path)
    (image,) = listed(path, InputOptions(column="right"))
    assert SourceReader(str(path)).read(image) == b"r"
    (image,) = listed(path, InputOptions(column="url"))
    assert image.uri == b"s3://b/k"
    (image,) = listed(path, InputOptions(format="list"))
    assert image.uri == b"s3://b/k"
    for options, said in [
        (InputOptions(column="n"), r"'n' holds no images or URIs; its columns are left \(binary\)"),
        (InputOptions(column="gone"), r"'gone' is missing.*right \(binary\)"),
        (InputOptions("parquet", "url"), "'url' holds no images"),
        (InputOptions("list", "left"), "'left' holds no URIs"),
    ]:
        with pytest.raises(SpecError, match=said):
            listed(path, options)


def test_without_any_column_that_fits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", n=[1], x=[0.5])
    for options in (AUTO, InputOptions("parquet"), InputOptions("list")):
        with pytest.raises(SpecError, match=r"no column holds .*n \(int64\), x \(double\)"):
            listed(path, options)
    (tmp_path / "b.jpg").write_bytes(b"x")
    (image,) = listed(tmp_path)
    assert image.source == f"{tmp_path}/b.jpg"
    # Asked for, it is accounted for.
    faulty, image = listed(tmp_path, InputOptions(column="x"))
    assert faulty.fault.startswith("not_an_image|the column 'x' holds no images or URIs")
    assert not image.fault


def test_images_are_preferred_to_texts_beside_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", image=[b"x"], caption=["a"], url=["s3://b/k"])
    assert [image.place for image in listed(path)] == ["row:0:0:image"]


def test_a_list_of_uris(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"found")
    path = write(tmp_path / "a.parquet", uri=["b.jpg", None, "s3://bucket/é.jpg", "", "gone.jpg"])
    noted: list[str] = []
    (images,) = iter_images(str(path), "/out", AUTO, noted=noted.append)
    assert [image.uri for image in images] == [
        f"file://{tmp_path}/b.jpg".encode(),
        "s3://bucket/é.jpg".encode(),
        f"file://{tmp_path}/gone.jpg".encode(),
    ]
    assert [image.size for image in images] == [5, -1, -1]
    assert noted == ["passed over: 2 empty entries of lists"]


def damaged(kind: str) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({"image": IMAGES}), target, compression="none")
    data = target.getvalue()
    return {
        "empty": b"",
        "text": b"no parquet at all" * 10,
        "cut": data[: len(data) // 2],
        "footer": data[:-308] + bytes(300) + data[-8:],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "footer"])
def test_damaged_files_are_one_reject(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.parquet").write_bytes(damaged(kind))
    (image,) = listed(tmp_path / "a.parquet")
    assert image.fault.startswith("damaged_archive|the Parquet file cannot be read: ")
    assert "\n" not in image.fault
    # So that it is read again once it is mended.
    assert not image.place


def test_damaged_pages_are_rejects_of_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"image": IMAGES}),
        path,
        row_group_size=100,
        use_dictionary=False,
        compression="zstd",
    )
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(3).column(0)
    start = column.data_page_offset
    data[start + 60 : start + column.total_compressed_size] = bytes(
        column.total_compressed_size - 60
    )
    path.write_bytes(data)
    images = listed(path)
    reader = SourceReader(str(path))
    bad = []
    for at, image in enumerate(images):
        try:
            assert reader.read(image) == IMAGES[at]
        except (RejectError, OSError):
            bad.append(at)
    assert bad == list(range(300, 400))


def test_a_changed_file_is_not_read_at_old_places(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", image=[b"old"])
    (image,) = listed(path)
    write(path, image=[b"new", b"newer"])
    with pytest.raises(OSError, match="has changed since it was planned"):
        SourceReader(str(path)).read(image)
