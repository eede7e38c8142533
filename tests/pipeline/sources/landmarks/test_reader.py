"""Files of landmarks, read back from every layout; and files that are none."""

from __future__ import annotations

import io
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import SpecError
from restyle.core.faces.anchors import anchors_of
from restyle.pipeline.sources.landmarks import json_members
from restyle.pipeline.sources.landmarks.json_members import members
from restyle.pipeline.sources.landmarks.reader import read_faces
from restyle.pipeline.sources.ranged_file import LocalFile
from tests.pipeline.sources.landmarks.layouts import (
    ANY_COUNT,
    OF_68,
    OF_FIVE,
    Rows,
    csv_long,
    csv_wide,
    parquet_long,
)
from tests.restyle_core.faces.test_alignment import synthetic_landmarks

Read = dict[str, list[tuple[bytes, str]]]
"""Anchors and fault of each face, by key."""


def read(path: Path) -> Read:
    found: Read = defaultdict(list)
    with LocalFile(os.open(path, os.O_RDONLY)) as file:
        for faces in read_faces(file, path.name):
            for index, key in enumerate(faces.keys):
                anchors = b"" if index in faces.faults else faces.anchors[index].tobytes()
                found[key].append((anchors, faces.faults.get(index, "")))
    return found


def refused(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def reduced(points: np.ndarray) -> bytes:
    anchors, faults = anchors_of(points[None].astype(np.float64))
    assert not faults
    return anchors[0].tobytes()


def faces(count: int, names: int = 30) -> Rows:
    """Faces of photographs in folders; every third has two."""
    rng = np.random.default_rng(count)
    rows = []
    for index in range(names):
        for _ in range(1 + (index % 3 == 0)):
            points = synthetic_landmarks(rng.uniform(50, 900, 2), rng.uniform(20, 90), 0)
            points = np.round(points + rng.normal(0, 0.3, points.shape), 3)
            if count == 5:
                points = points[[36, 45, 30, 48, 54]]
            if count == 4:
                points = np.array([[0, 0], [0.25, 90], [91, 90], [91.5, 0]]) + points[0]
            rows.append((f"folder {index % 4}/{index:03d}.jpg", points))
    return rows


@pytest.mark.parametrize("count", [68, 5, 4])
@pytest.mark.parametrize("name", ANY_COUNT)
def test_every_layout_holds_the_same_faces(name: str, count: int, tmp_path: Path) -> None:
    rows, expected = faces(count), defaultdict(list)
    ANY_COUNT[name](tmp_path / name, rows)
    for key, points in rows:
        expected[key].append((reduced(points), ""))
    assert read(tmp_path / name) == expected


@pytest.mark.parametrize("name", OF_FIVE)
def test_celebas_files(name: str, tmp_path: Path) -> None:
    rows = [(f"{n:06d}.jpg", points) for n, (_, points) in enumerate(faces(5))]
    OF_FIVE[name](tmp_path / name, rows)
    assert read(tmp_path / name) == {key: [(reduced(each), "")] for key, each in rows}


def test_ffhqs_file_has_two_pictures_of_a_face(tmp_path: Path) -> None:
    rows = [(f"in-the-wild-images/{n:05d}.png", points) for n, (_, points) in enumerate(faces(68))]
    OF_68["ffhq.json"](tmp_path / "f.json", rows)
    found = read(tmp_path / "f.json")
    assert len(found) == 2 * len(rows)
    for number, (key, points) in enumerate(rows):
        assert found[key] == [(reduced(points), "")]
        aligned = found[f"images1024x1024/00000/{number:05d}.png"]
        assert aligned == [(reduced(points * 0.5 + 7), "")]


def test_batches_do_not_divide_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restyle.pipeline.sources.landmarks.reader._ROWS", 101)
    monkeypatch.setattr("restyle.pipeline.sources.landmarks.text_tables._BLOCK", 2500)
    rows = faces(68, 9)
    for write in (parquet_long, csv_long, csv_wide):
        write(tmp_path / "f", rows)
        assert [len(each) for each in read(tmp_path / "f").values()] == [2, 1, 1] * 3
        assert all(not fault for each in read(tmp_path / "f").values() for _, fault in each)


def test_members_are_parsed_wherever_the_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"a": [1, -2.5e3, [], {}, 'x\\"]}', "ü€𝄞"], "b {": {"c": None}, "": [[True], 12345]}
    for indent in (None, 1):
        text = json.dumps(value, indent=indent, ensure_ascii=False)
        for chunk in (1, 2, 3, 5, 7, len(text)):
            monkeypatch.setattr(json_members, "_CHUNK", chunk)
            assert dict(members(io.StringIO(text))) == value
            listed = list(members(io.StringIO(f" [ {text} , 1234 ] \n")))
            assert listed == [(None, value), (None, 1234)]
            for end in range(1, len(text)):
                with pytest.raises(SpecError, match="no JSON"):
                    list(members(io.StringIO(text[:end])))


def test_memory_is_that_of_a_member(tmp_path: Path) -> None:
    path = tmp_path / "bomb.json"
    path.write_text('{"a": [' + "1," * (json_members.LONGEST * 5 // 4) + "1]}")
    assert "characters begins at character 6" in refused(path)


GOOD = [[1, 2]] * 68


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("{", "cut off"),
        ('{"a.jpg": [[1, 2], [3', "cut off"),
        ('{"a.jpg": [[1, 2]]', "cut off"),
        ('{"a.jpg" [[1, 2]]}', "a name is missing at character 10"),
        ('{"a.jpg": [[1, 2]]} {"b": 1}', "follows the end"),
        ('{"a.jpg": [[1, 2]],}', "no JSON"),
        ('{"a.jpg": "b"}', "entry 1 ('a.jpg') is no list of points"),
        ('{"a.jpg": {"points": 3}}', "not FFHQ's"),
        ("[[1, 2]]", "entry 1 is no object"),
        ('[{"path": "a.jpg"}]', "entry 1 has none of landmarks"),
        ('[{"landmarks": []}]', "entry 1 has none of path"),
        ('[{"path": 7, "landmarks": []}]', "names its photograph by 7"),
        ('[{"path": "", "landmarks": []}]', "entry 1 does not say which photograph"),
        ('[{"path": "a", "path": "b", "landmarks": []}]', "name 'path' twice"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ('{"a.jpg": [' + "1" * 5000 + "]}", "Exceeds the limit"),
        ("a", "no column says which photograph"),
        ("a,b\n1,2\n", "no column says which photograph"),
        ("path,x,y\na.jpg,1,2\n", "no columns of landmarks"),
        ("path,landmarks\na.jpg,[1]\n", "Parquet and JSON only"),
        ("path,path,x0\n", "two columns 'path'"),
        ("path,x0,y0,x1,y1,x2,y2,x3,y3\na.jpg,1,2,3,4,5,6,7\n", "Expected 9 columns, got 8"),
        ("path,x0,y0,x1,y1,x2,y2,x3,y3\na.jpg,1,2,3,4,5,6,7,eight\n", "eight"),
        ("path;x0;y0;x1;y1;x2;y2;x3;y3\na.jpg;1,5;2;3;4;5;6;7;8\n", "1,5"),
        ("path,x0,y0,x1,y1,x2,y2,x3,y3\n,1,2,3,4,5,6,7,8\n", "line 2 does not say"),
        ("7\nlefteye_x lefteye_y\na.jpg 1 2\n", "no columns of landmarks"),
        ("lefteye_x lefteye_y\n", "no columns of landmarks"),
        ("12\n", "no columns of landmarks"),
    ],
)
def test_a_malformed_text_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_text(text)
    assert said in refused(path)


def test_a_malformed_line_of_celebas_file(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    OF_FIVE["celeba.txt"](path, faces(5, 3))
    path.write_text(path.read_text() + "b.jpg 1 2 3\n")
    assert "line 7 is no name with 10 numbers" in refused(path)
    path.write_text("x " * 40_000)
    assert "longer than" in refused(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfea\0,\0b\0\n\0", "neither Parquet nor a text in UTF-8"),
        (b'{"a": [\xff]}', "neither Parquet nor a text in UTF-8"),
        (b"PAR1 and no more", "the Parquet file cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "neither"),
    ],
)
def test_what_is_no_text(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.write_bytes(data)
    assert said in refused(path)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"path": ["a"], "landmarks": [3]}, "landmarks holds int64, not lists"),
        ({"path": [3], "landmarks": [GOOD]}, "path holds int64, not texts"),
        ({"path": ["a"], "landmarks": [[["x", "y"]]]}, "landmarks holds string, not numbers"),
        ({"path": [None, "b"], "landmarks": [GOOD, GOOD]}, "row 1 does not say"),
        ({"path": ["a"], "point": [0], "x": ["1"], "y": [1]}, "x holds string, not numbers"),
        ({"file": ["a"], "landmarks": [GOOD]}, "there are file, landmarks"),
    ],
)
def test_parquet_with_other_columns(table: dict[str, object], said: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(table), tmp_path / "l.parquet")
    assert said in refused(tmp_path / "l.parquet")


def test_parquet_that_states_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    kind = pa.schema([("path", pa.dictionary(pa.int32(), pa.string())), ("landmarks", pa.null())])
    keys = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1 << 20, np.int32)), ["a.jpg"])
    with pq.ParquetWriter(path, kind, compression="zstd") as writer:
        for _ in range(4):
            writer.write_table(pa.table([keys, pa.nulls(1 << 20)], schema=kind))
    assert "states 4,194,304 rows in" in refused(path)


def test_rows_that_hold_no_face_are_told_and_leave_the_others_alone(tmp_path: Path) -> None:
    good = faces(68, 2)[2][1]
    values: dict[str, object] = {
        "good.jpg": good.tolist(),
        "short.jpg": good[:67].tolist(),
        "thin.jpg": [[x] for x, _ in good],
        "deep.jpg": [[x, y, 1] for x, y in good.tolist()],
        "odd.jpg": good.ravel().tolist()[:-1],
        "nan.jpg": np.where(good == good[40], np.nan, good).tolist(),
        "null.jpg": [[None, 1], *good.tolist()[1:]],
        "text.jpg": [["a", "b"]] * 68,
        "huge.jpg": [[10**400, 1], *good.tolist()[1:]],
        "none.jpg": [],
    }
    (tmp_path / "f.json").write_text(json.dumps(values))
    found = read(tmp_path / "f.json")
    assert found.pop("good.jpg") == [(reduced(good), "")]
    said = {key: fault for key, [(_, fault)] in found.items()}
    assert "none.jpg" not in said
    assert said["short.jpg"].startswith("67 points, where a face has 68, 5")
    for name in ("thin", "deep", "odd", "text", "huge"):
        assert said[f"{name}.jpg"].startswith("no list of points"), name
    for name in ("nan", "null"):
        assert "not finite" in said[f"{name}.jpg"]
    for name in ("text.jpg", "huge.jpg", "nan.jpg", "none.jpg"):
        del values[name]
    keys = list(values)
    pq.write_table(
        pa.table({"path": keys[:4], "landmarks": [values[k] for k in keys[:4]]}),
        tmp_path / "f.parquet",
    )
    from_parquet = read(tmp_path / "f.parquet")
    assert from_parquet["good.jpg"] == [(reduced(good), "")]
    assert {key: from_parquet[key][0][1] for key in ("short.jpg", "thin.jpg", "deep.jpg")} == {
        key: said[key] for key in ("short.jpg", "thin.jpg", "deep.jpg")
    }
    frame = pd.DataFrame(
        {"path": ["a", "b"], **{f"{a}{n}": [1.0, None] for n in range(5) for a in "xy"}}
    )
    frame.to_csv(tmp_path / "f.csv", index=False)
    assert "not finite" in read(tmp_path / "f.csv")["b"][0][1]


def test_points_of_a_face_in_rows_must_be_numbered_in_order(tmp_path: Path) -> None:
    def numbered(*numbers: int) -> str:
        lines = [f"a.jpg,{number},{number},{number}" for number in numbers]
        (tmp_path / "f.csv").write_text("path,point,x,y\n" + "\n".join(lines) + "\n")
        return " | ".join(fault for _, fault in read(tmp_path / "f.csv")["a.jpg"])

    # A point that is not above the one before begins another face.
    assert numbered(0, 0, 1, 2).startswith("1 points, where a face has 68, 5")
    assert " | 3 points, where" in numbered(0, 0, 1, 2)
    assert "not numbered 0 to 4 in order" in numbered(1, 2, 3, 4, 5)
    assert "not numbered 0 to 4 in order" in numbered(0, 1, 2, 3, 9)
    assert numbered(*range(60)).startswith("60 points")
    lines = [f"a.jpg,{number},1,1" for number in range(200_000)]
    (tmp_path / "f.csv").write_text("path,point,x,y\n" + "\n".join(lines) + "\n")
    assert "line 2 begins a face of more than 4624 points" in refused(tmp_path / "f.csv")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("sub\\1.jpg", "sub/1.jpg"),
        ("C:\\photos\\1.jpg", "C:/photos/1.jpg"),
        ("./a/1.jpg", "a/1.jpg"),
        (" 1.jpg ", "1.jpg"),
        ("file:///a/1.jpg", "/a/1.jpg"),
        ("a/odd\\name.jpg", "a/odd\\name.jpg"),
    ],
)
def test_keys_are_taken_with_slashes(written: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(json.dumps({written: GOOD}))
    assert list(read(tmp_path / "f.json")) == [key]
