"""What lies beside photographs and shards in a folder, and must neither count nor stop anything."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.input_plan import InputPlan, plan_only
from restyle.pipeline.sources import SourceReader
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage
from tests.pipeline.sources.listing import AUTO, listed
from tests.pipeline.sources.tars import packed
from tests.warm_command import restyle

JPEG = b"\xff\xd8\xff\xe0 a photograph"


def names(images: list[SourceImage], root: Path | str) -> list[str]:
    assert not [image.fault for image in images if image.fault]
    return [image.source.removeprefix(f"{root}/") for image in images]


def metadata(**more: object) -> pa.Table:
    """Columns as img2dataset writes them beside each shard."""
    return pa.table(
        {
            "url": ["http://host.invalid/1.jpg", "http://host.invalid/2.jpg"],
            "key": ["000000000", "000000001"],
            "caption": ["a face", "another, in front of a wall"],
            "status": ["success", "success"],
            "error_message": [None, None],
            "width": [64, 64],
            "sha256": ["a" * 64, "b" * 64],
            **more,
        }
    )


def test_shards_of_img2dataset_as_tar(tmp_path: Path) -> None:
    for shard in ("00000", "00001"):
        members = [(f"{shard}{at}{end}", b"x") for at in "01" for end in (".jpg", ".json", ".txt")]
        (tmp_path / f"{shard}.tar").write_bytes(packed(members))
        pq.write_table(metadata(), tmp_path / f"{shard}.parquet")
        (tmp_path / f"{shard}_stats.json").write_text('{"count": 2}')
    notes: list[str] = []
    found = names(listed(tmp_path, notes=notes), tmp_path)
    assert found == [f"{s}.tar::{s}{at}.jpg" for s in ("00000", "00001") for at in "01"]
    assert notes == [
        "passed over: 4 files that are no images (.parquet 2, .json 2); name a list or table "
        "itself to read it",
        "passed over in 2 archives: 8 members are no images by name (.json 4, .txt 4)",
    ]


def test_shards_of_img2dataset_as_parquet(tmp_path: Path) -> None:
    pq.write_table(metadata(jpg=[b"first", b"second"]), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text("{}")
    images = listed(tmp_path)
    assert names(images, tmp_path) == ["00000.parquet::row0", "00000.parquet::row1"]
    assert [SourceReader(str(tmp_path)).read(image) for image in images] == [b"first", b"second"]


def test_shards_of_img2dataset_as_files(tmp_path: Path) -> None:
    (tmp_path / "00000").mkdir()
    for end in ("jpg", "json", "txt"):
        (tmp_path / "00000" / f"000000000.{end}").write_bytes(b"x")
    pq.write_table(metadata(), tmp_path / "00000.parquet")
    assert names(listed(tmp_path), tmp_path) == ["00000/000000000.jpg"]


TABLES = {
    "a.csv": b"path,original,label\na.jpg,b.jpg,1\n",
    "metadata.jsonl": b'{"file_name": "a.jpg"}\n',
    "captions.txt": b"a dog\n",
    "labels.npy": b"\x93NUMPY\x01\x00",
    "README": "Photographs of a dög.\n".encode(),
    "model.safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00{}",
    "film.mpg": b"\x00\x00\x01\xba",
    "clip.mp4": b"\x00\x00\x00\x18ftypmp42",
    "empty.log": b"",
}


@pytest.mark.parametrize("name", TABLES)
def test_one_file_beside_photographs(tmp_path: Path, name: str) -> None:
    for each in ("a.jpg", "b.jpg", "deep/c.jpg"):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        (tmp_path / each).write_bytes(JPEG)
    (tmp_path / "deep" / name).write_bytes(TABLES[name])
    notes: list[str] = []
    assert names(listed(tmp_path, notes=notes), tmp_path) == ["a.jpg", "b.jpg", "deep/c.jpg"]
    (note,) = notes
    assert note.startswith(f"passed over: 1 file that is no image ({Path(name).suffix or '(none)'}")
    # Everything counts where it is asked for.
    assert len(listed(tmp_path, InputOptions("files"))) == 4


@pytest.mark.parametrize(
    "columns",
    [
        {"file_name": ["a.jpg"], "url": ["http://host.invalid/a.jpg"]},
        {"caption": ["a dog at the sea"]},
        {"width": [1.0]},
    ],
    ids=lambda columns: "+".join(columns),
)
def test_a_table_beside_photographs(tmp_path: Path, columns: dict[str, list]) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    pq.write_table(pa.table(columns), tmp_path / "about.parquet")
    assert names(listed(tmp_path), tmp_path) == ["a.jpg"]
    # Named itself, it is said what is wrong with it.
    with pytest.raises(SpecError, match=r"several columns|no column holds images or URIs"):
        listed(tmp_path / "about.parquet")
    # So it is where there is nothing else.
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(SpecError, match=r"several columns|no column holds images or URIs"):
        listed(tmp_path)


def test_a_folder_of_lists_alone_is_an_error_that_says_so(tmp_path: Path) -> None:
    for name, data in (("a.csv", "path\nx.jpg\n"), ("b.csv", "path\ny.jpg\n"), ("c.json", "{}")):
        (tmp_path / name).write_text(data)
    with pytest.raises(
        SpecError, match=r"holds no images; correct INPUT; passed over: 3 files"
    ) as e:
        listed(tmp_path)
    assert "(.csv 2, .json 1); name a list or table itself" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_column_of_texts_is_no_list_and_one_of_paths_is(tmp_path: Path) -> None:
    path = tmp_path / "named.parquet"
    for values in (["a dog. or a cat", "x"], ["and / or", "so-called"], ["sha" * 20] * 3):
        pq.write_table(pa.table({"text": values}), path)
        with pytest.raises(SpecError, match="no column holds images or URIs"):
            listed(path)
        # What is asked for is done.
        assert len(listed(path, InputOptions(column="text"))) == len(values)
    for values in (["a.jpg", None], ["images/0001", "images/0002"], ["C:\\photos\\1"], ["./x"]):
        pq.write_table(pa.table({"text": ["a dog"] * len(values), "where": values}), path)
        assert len(listed(path)) == sum(value is not None for value in values)
    pq.write_table(pa.table({"one": ["a.jpg"], "two": ["b.jpg"], "text": ["a dog"]}), path)
    with pytest.raises(SpecError, match=r"several columns may hold the URIs \(one, two\)"):
        listed(path)


def test_of_several_columns_of_bytes_the_pictures_are_meant(tmp_path: Path) -> None:
    columns = {"embedding": [b"\x00\x01", b"\x02"], "jpg": [None, JPEG], "hash": [b"a", b"b"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    for source in (tmp_path, tmp_path / "a.parquet"):
        assert [image.place for image in listed(source)] == ["row:0:0:jpg", "row:0:1:jpg"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("damaged.jpg", b"text"),
        ("0a1b2c", JPEG),
        ("0a1b2c", b""),
        ("0a1b2c", b"\x00\x01 something"),
        ("0a1b2c", b"<!DOCTYPE html><title>404</title>"),
        ("a.jpg_large", JPEG),
        ("photo.orig", JPEG),
        ("2021.06.01", JPEG),
        ("new.JXL", b"\xff\x0a"),
        ("raw.nef", b"anything"),
        ("a.jpg?width=3", b"anything"),
    ],
)
def test_what_may_be_an_image_is_accounted_for(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert names(listed(tmp_path), tmp_path) == [name]


def test_on_a_remote_store_the_name_decides() -> None:
    files = fsspec.filesystem("memory")
    for name in ["a.jpg", "b.csv", "c.json", "0a1b2c", "d.nef"]:
        files.pipe_file(f"/bystanders/{name}", b"text")
    root = "memory:///bystanders"
    assert names(listed(root), root) == ["0a1b2c", "a.jpg", "d.nef"]


def test_what_was_planned_once_stays_an_input(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(JPEG)
    (photos / "notes.txt").write_bytes(b"text")
    pq.write_table(pa.table({"width": [1]}), photos / "about.parquet")
    # As an earlier version did.
    plan_only(InputPlan(str(photos), str(out), InputOptions("files")), Listener())
    (photos / "new.txt").write_bytes(b"text")
    outcome = plan_only(InputPlan(str(photos), str(out), AUTO), Listener())
    assert (outcome.planned.new, outcome.planned.vanished, outcome.images) == (0, 0, 3)


def test_the_command_plans_a_folder_of_img2dataset(tmp_path: Path) -> None:
    (tmp_path / "i2d").mkdir()
    (tmp_path / "i2d" / "00000.tar").write_bytes(packed([("0.jpg", JPEG), ("0.json", b"{}")]))
    pq.write_table(metadata(), tmp_path / "i2d" / "00000.parquet")
    (tmp_path / "i2d" / "00000_stats.json").write_text(json.dumps({"count": 1}))
    result = restyle("plan", tmp_path / "i2d", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "(.parquet 1, .json 1); name a list or table itself to read it" in result.stderr
    assert "1" in result.stdout.split()
