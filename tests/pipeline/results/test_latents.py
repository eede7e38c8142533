"""``read_latents`` against Arrow's own reading, on sound, damaged, old and revised outputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline import read_latents
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.inversion.operation import INVERSION
from restyle.pipeline.ledger.datasets import encode, parquet_options
from restyle.pipeline.results import latent_pages
from restyle.pipeline.results.latent_file import open_latents
from restyle.pipeline.results.latent_pages import LatentPages, decode, find_pages
from restyle.pipeline.storage.filesystem import open_storage
from tests.command import ROOT
from tests.pipeline.fabricated import Made, fabricate, image, redo
from tests.s3_server import faulty_s3, first

MADE = Made(faces=50, rejects=3, shape=(18, 512), unit=16, reconstructions="none")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latents") / "out"
    fabricate(folder, MADE)
    assert verify(str(folder)).problems == []
    return folder


def by_arrow(out: Path) -> pa.Table:
    tables = [pq.read_table(path) for path in sorted((out / "latents").iterdir())]
    return pa.concat_tables(tables)


def values(table: pa.Table, shape: tuple[int, int] = (18, 512)) -> np.ndarray:
    return np.stack(table["latent"].to_numpy()).reshape(-1, *shape)


def test_all_rows_in_the_order_of_the_input(out: Path) -> None:
    rows, w = read_latents(out)
    expected = by_arrow(out)
    assert w.dtype == np.float32
    assert w.flags.c_contiguous
    np.testing.assert_array_equal(w, values(expected))
    assert rows["source"].tolist() == [f"/photos/{i:06d}.jpg" for i in range(50)]
    assert "latent" not in rows
    np.testing.assert_array_equal(rows["l2"], expected["l2"].to_numpy())


def test_the_numbers_are_read_in_place(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restyle.pipeline.results.latent_file.decode", None)
    assert len(read_latents(out)[1]) == 50


def test_columns_and_condition(out: Path) -> None:
    everything = by_arrow(out)
    kept = np.flatnonzero(everything["id_similarity"].to_numpy() > 0.8)
    assert 5 < len(kept) < 45
    rows, w = read_latents(out, ["source", "l2"], "id_similarity > 0.8 -- good ones")
    assert list(rows) == ["source", "l2"]
    assert rows["source"].tolist() == [f"/photos/{i:06d}.jpg" for i in kept]
    np.testing.assert_array_equal(w, values(everything)[kept])


def test_nothing_matches(out: Path) -> None:
    rows, w = read_latents(out, where="l2 > 1e9")
    assert len(rows) == 0
    assert w.shape == (0, 18, 512)


def test_no_face_at_all(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=0, rejects=2))
    rows, w = read_latents(tmp_path, ["source"])
    assert list(rows) == ["source"]
    assert (len(rows), w.shape) == (0, (0, 0, 0))


@pytest.mark.parametrize(
    ("columns", "where", "words"),
    [
        (["sauce"], None, "no column 'sauce'; there are image_id"),
        (None, "sauce = 1", "sauce"),
        (None, "true); copy latents to 'x.csv'; select (1", "one question"),
        (None, "source in (select content from read_text('/etc/passwd'))", "disabled by config"),
    ],
)
def test_what_is_asked_wrongly(
    out: Path, columns: list[str] | None, where: str | None, words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        read_latents(out, columns, where)


def test_files_without_an_entry_are_not_read(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=40, unit=16))
    next((tmp_path / "_ledger").glob("unit-000001*")).unlink()
    assert len(read_latents(tmp_path)[1]) == 24


@pytest.mark.parametrize("compacted", [False, True])
def test_current_revisions(tmp_path: Path, compacted: bool) -> None:
    made = Made(faces=6, shape=(3, 4))
    storage = fabricate(tmp_path, made)
    redo(storage, made, 2, 2, rejected=False)
    redo(storage, made, 2, 3, rejected=False)
    redo(storage, made, 4, 2, rejected=True)
    if compacted:
        compact(str(tmp_path))
    rows, w = read_latents(tmp_path)
    third = image(made, 2).image_id
    # Of the third input the newest row; of the fifth none, since it is rejected now.
    assert len(rows) == len(w) == 5
    assert rows.loc[rows.image_id == third, "revision"].tolist() == [3]
    assert image(made, 4).image_id not in set(rows.image_id)
    every, _ = read_latents(tmp_path, revisions="all")
    assert sorted(every.loc[every.image_id == third, "revision"]) == [1, 2, 3]


OLD = {
    "zstd with a dictionary": {"compression": "zstd"},
    "zstd": {"compression": "zstd", "use_dictionary": False},
    "a dictionary": {"compression": "none"},
    "byte stream split": {
        "use_dictionary": False,
        "use_byte_stream_split": ["latent.list.element"],
    },
    "second version of pages": {
        "compression": "none",
        "use_dictionary": False,
        "data_page_version": "2.0",
    },
    "small pages": {"compression": "none", "use_dictionary": False, "data_page_size": 5000},
    "small groups": {"compression": "none", "use_dictionary": False, "row_group_size": 3},
}


@pytest.mark.parametrize("name", sorted(OLD))
def test_whatever_way_it_was_written(tmp_path: Path, name: str) -> None:
    fabricate(tmp_path, Made(faces=30, shape=(18, 64)))
    (path,) = (tmp_path / "latents").iterdir()
    table = pq.read_table(path)
    pq.write_table(table, path, **OLD[name])
    np.testing.assert_array_equal(read_latents(tmp_path)[1], values(table, (18, 64)))
    with open_latents(str(tmp_path), f"latents/{path.name}") as file:
        for rows in ([29], [0], [3, 4, 5, 17, 28], list(range(2, 30))):
            target = np.empty((len(rows), 18 * 64), np.float32)
            file.read_into(np.array(rows), target)
            np.testing.assert_array_equal(target, values(table, (1, 18 * 64))[rows, 0])


def test_small_pages_need_no_decoding(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=30, shape=(18, 64)))
    (path,) = (tmp_path / "latents").iterdir()
    pq.write_table(pq.read_table(path), path, **OLD["small pages"])
    with open_latents(str(tmp_path), f"latents/{path.name}") as file, file._bytes(0) as data:
        pages = find_pages(file.parquet, 0, data)
        assert pages is not None
        assert len(pages.pages) > 10


@pytest.mark.parametrize("place", ["header", "footer", "end"])
def test_damage_is_one_clear_line(tmp_path: Path, place: str) -> None:
    fabricate(tmp_path, Made(faces=30, shape=(18, 64)))
    (path,) = (tmp_path / "latents").iterdir()
    data = bytearray(path.read_bytes())
    with open_latents(str(tmp_path), f"latents/{path.name}") as file:
        start = file.parquet.metadata.row_group(0).column(4).data_page_offset
    if place == "header":
        data[start : start + 40] = bytes(range(215, 255))
    elif place == "footer":
        data[-30:] = bytes(30)
    path.write_bytes(data[: start + 9] if place == "end" else data)
    with pytest.raises(FatalError, match="restyle verify") as caught:
        read_latents(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_header_that_is_cut_or_flipped_is_refused_or_equal(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=2, shape=(2, 16)))
    (path,) = (tmp_path / "latents").iterdir()
    sound = path.read_bytes()
    with open_latents(str(tmp_path), f"latents/{path.name}") as file:
        start = file.parquet.metadata.row_group(0).column(4).data_page_offset
        expected = decode(file.parquet, 0)
        for at in range(start, start + 24):
            for bit in range(8):
                data = bytearray(sound)
                data[at] ^= 1 << bit
                path.write_bytes(data)
                target = np.empty((2, 32), np.float32)
                try:
                    file.read_into(np.arange(2), target)
                except FatalError:
                    continue
                # A flipped bit of a statistic, or of a size that is not used.
                assert target.shape == expected.shape


def test_an_object_store_that_fails_for_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(faces=20, unit=8, shape=(18, 64))
    monkeypatch.setenv("RESTYLE_RETRIES", "6:0.01")
    with faulty_s3(monkeypatch) as server:
        fabricate("s3://bucket/out", made)
        server.rule = first(3, "503", r"^GET .*latents/")
        rows, w = read_latents("s3://bucket/out", where="l2 >= 0")
        assert server.met["503"] == 3
        server.rule = first(1, "403", r"^GET .*latents/")
        with pytest.raises(FatalError, match="denied"):
            read_latents("s3://bucket/out")
    assert (len(rows), w.shape) == (20, (20, 18, 64))


def test_neither_torch_nor_ray(out: Path) -> None:
    code = (
        "import sys; from restyle.pipeline import read_latents; "
        f"read_latents({str(out)!r}, where='l2 > 0'); "
        "print(sorted({'torch', 'ray', 'scipy', 'dlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_is_written_now_is_read_without_decoding(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=40, unit=8, save_steps="latents"))
    compact(str(tmp_path))
    for dataset in ("latents", "steps"):
        (path,) = (tmp_path / dataset).iterdir()
        with open_latents(str(tmp_path), f"{dataset}/{path.name}") as file:
            for group, _, _ in file.groups():
                with file._bytes(group) as data:
                    assert find_pages(file.parquet, group, data) is not None


def test_groups_are_of_bounded_size() -> None:
    pictures = pa.table({"image": pa.array([bytes(2**20)] * 50)})
    parquet = pq.ParquetFile(pa.BufferReader(encode(pictures)))
    assert parquet.num_row_groups == 4
    assert parquet_options(pictures.schema)["compression"] == {"image": "zstd"}


def test_no_output(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="holds no output"):
        read_latents(tmp_path)
    assert INVERSION.read_settings(open_storage(str(tmp_path))) is None


def test_latents_that_lie_in_two_pages_have_no_offset() -> None:
    pages = LatentPages(4, (latent_pages._Page(0, 100, 10), latent_pages._Page(10, 200, 10)))
    assert pages.offsets(np.arange(5)).tolist() == [100, 116, 0, 208, 224]
