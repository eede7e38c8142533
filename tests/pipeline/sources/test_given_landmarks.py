"""Which input gets which landmarks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import SpecError
from restyle.core.faces.anchors import ANCHORS, anchors_of
from restyle.pipeline.sources import given_landmarks as module
from restyle.pipeline.sources.formats import shard_process
from restyle.pipeline.sources.formats.shard_process import ShardProcess
from restyle.pipeline.sources.formats.shard_service import ShardService
from restyle.pipeline.sources.given_landmarks import MOST_FACES, read_landmarks
from restyle.pipeline.sources.source_image import SourceImage, image_id
from tests.pipeline.sources.landmarks.layouts import json_ffhq
from tests.restyle_core.faces.test_alignment import synthetic_landmarks


class Direct(ShardService):
    """Parses in this process, which takes no second to start."""

    def end(self) -> None:
        pass


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ShardProcess", Direct)


@pytest.fixture
def isolated(direct: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parses in the child process as a run does."""
    monkeypatch.setattr(module, "ShardProcess", ShardProcess)


def face(number: int) -> np.ndarray:
    return synthetic_landmarks((100 + 10 * number, 90), 30, 0)


def written(folder: Path, **faces: object) -> str:
    path = folder / "l.json"
    path.write_text(json.dumps(faces))
    return str(path)


def image(source: str) -> SourceImage:
    return SourceImage(image_id(source.encode()), source, source.encode(), 1, "v")


def given(path: str, *sources: str) -> list[SourceImage]:
    landmarks = read_landmarks(path)
    half = len(sources) // 2
    batches = [[image(each) for each in some] for some in (sources[:half], sources[half:])]
    found = [each for batch in landmarks.given(batches) for each in batch]
    landmarks.check_matched()
    return found


def is_of(found: SourceImage, *numbers: int) -> bool:
    expected = np.concatenate([anchors_of(face(number)[None])[0] for number in numbers])
    return not found.fault and np.array_equal(np.frombuffer(found.landmarks, ANCHORS), expected)


@pytest.mark.parametrize(
    "key",
    ["1.jpg", "b/1.jpg", "a/b/1.jpg", "/data/a/b/1.jpg", "file:///data/a/b/1.jpg", "b\\1.jpg"],
)
def test_a_key_is_the_end_of_an_address(key: str, tmp_path: Path) -> None:
    path = written(tmp_path, **{key: face(1).tolist(), "other": face(2).tolist()})
    of_it, without = given(path, "/data/a/b/1.jpg", "/data/a/b/11.jpg")
    assert is_of(of_it, 1)
    assert without.fault == f"no_landmarks|{path} has no landmarks of it"
    assert without.landmarks == b""


@pytest.mark.parametrize(
    "key", ["img/1.jpg", "1.jpg", "2.tar::img/1.jpg", "s3://b/2.tar::img/1.jpg"]
)
def test_members_of_shards(key: str, tmp_path: Path) -> None:
    (found,) = given(written(tmp_path, **{key: face(3).tolist()}), "s3://b/2.tar::img/1.jpg")
    assert is_of(found, 3)


def test_the_longest_key_counts(tmp_path: Path) -> None:
    path = written(tmp_path, **{"1.jpg": face(1).tolist(), "b/1.jpg": face(2).tolist()})
    one, other = given(path, "/a/1.jpg", "/b/1.jpg")
    assert is_of(one, 1)
    assert is_of(other, 2)


def test_ffhqs_two_pictures_are_told_by_their_folders(tmp_path: Path) -> None:
    rows = [(f"in-the-wild-images/00000/{n:05d}.png", face(n)) for n in range(3)]
    json_ffhq(tmp_path / "f.json", rows)
    wild, aligned, thumbnail = given(
        str(tmp_path / "f.json"),
        "/ffhq/in-the-wild-images/00000/00001.png",
        "/ffhq/images1024x1024/00000/00001.png",
        "/ffhq/thumbnails128x128/00000/00001.png",
    )
    assert is_of(wild, 1)
    expected = anchors_of((face(1) * 0.5 + 7)[None])[0]
    assert np.array_equal(np.frombuffer(aligned.landmarks, ANCHORS), expected)
    assert thumbnail.fault.startswith("no_landmarks|")
    with pytest.raises(SpecError, match=r"first key is 'in-the-wild-images/00000/00000.png', the"):
        given(str(tmp_path / "f.json"), "/flat/00001.png")


@pytest.mark.usefixtures("isolated")
def test_several_faces_in_the_order_of_the_file(tmp_path: Path) -> None:
    keys = ["b.jpg", "a.jpg", "b.jpg", "c.jpg", "b.jpg"]
    table = {"path": keys, "landmarks": [face(number).tolist() for number in range(5)]}
    pq.write_table(pa.table(table), tmp_path / "l.parquet")
    a, b, c = given(str(tmp_path / "l.parquet"), "/x/a.jpg", "/x/b.jpg", "/x/c.jpg")
    assert is_of(a, 1)
    assert is_of(b, 0, 2, 4)
    assert is_of(c, 3)


def test_one_bad_face_rejects_its_photograph(tmp_path: Path) -> None:
    faces = [face(1).tolist(), face(2).tolist()[:5] + [[0, 0]] * 62, face(3).tolist()]
    path = written(tmp_path, good=face(0).tolist(), bad=faces)
    good, bad = given(path, "/x/good", "/x/bad")
    assert is_of(good, 0)
    assert bad.fault.startswith("bad_landmarks|67 points, where a face has 68")
    assert bad.fault.endswith(f"(entry 2 of {path})")


def test_a_photograph_with_a_crowd_in_it(tmp_path: Path) -> None:
    crowd = [(face(1) + index).tolist() for index in range(MOST_FACES + 1)]
    path = written(tmp_path, crowd=crowd, less=crowd[1:])
    full, less = given(path, "/x/crowd", "/x/less")
    assert full.fault.startswith(f"bad_landmarks|{path} has 1,001 faces of it, more than 1,000")
    assert len(less.landmarks) == MOST_FACES * ANCHORS.itemsize


def test_what_planning_found_before_stays(tmp_path: Path) -> None:
    landmarks = read_landmarks(written(tmp_path, a=face(1).tolist()))
    known = SourceImage("0" * 32, "/x/b", b"/x/b", -1, "", "", "empty|it is empty")
    ((first, second),) = landmarks.given([[image("/x/a"), known]])
    assert is_of(first, 1)
    assert second.fault == "empty|it is empty"


@pytest.mark.parametrize(
    "sources",
    [("/x/a/1.jpg", "/x/b/1.jpg"), ("/x/1.jpg", "/x/b/1.jpg"), ("/x/1.jpg", "s3://x/t.tar::1.jpg")],
)
def test_a_key_of_two_inputs_is_an_error(sources: Sequence[str], tmp_path: Path) -> None:
    path = written(tmp_path, **{"1.jpg": face(1).tolist()})
    with pytest.raises(SpecError) as caught:
        given(path, *sources)
    assert str(caught.value).startswith(
        f"--landmarks {path}: the key '1.jpg' may be of {sources[1]} or of an input before it"
    )
    # An input may be listed twice.
    one, again = given(path, sources[0], sources[0])
    assert one == again


def test_a_file_of_other_photographs_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, **{"C:\\faces\\1.jpg": face(1).tolist()})
    with pytest.raises(SpecError, match=r"first key is 'C:/faces/1.jpg', the first input is /x/1"):
        given(path, "/x/1.jpg", "/x/2.jpg")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": [[1, 2]], "b": [], "a": [[3, 4]]}', "entries 1 and 3 have the same name"),
        ('{"./a": [[1, 2]], "a": [[3, 4]]}', "entries 1 and 2 have the same name"),
        (
            "path,x0,y0,x1,y1,x2,y2,x3,y3\na,0,0,0,9,9,9,9,0\nb,0,0,0,9,9,9,9,0\n"
            "a,0,1,0,9,9,9,9,0\na,0,0,0,9,9,9,9,0\n",
            "lines 2 and 5 are the same face of the same photograph",
        ),
        ("path,x0,y0,x1,y1,x2,y2,x3,y3\n", "holds no face"),
        ("{}", "holds no face"),
        ("{", "it is cut off"),
    ],
)
def test_twins_and_empty_files(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_landmarks(str(path))
    assert str(caught.value).startswith(f"--landmarks {path}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("isolated")
def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"--landmarks .*gone.csv does not exist"):
        read_landmarks(str(tmp_path / "gone.csv"))
    with pytest.raises(SpecError, match="cannot be read: it is no regular file"):
        read_landmarks(str(tmp_path))
    with pytest.raises(SpecError, match="nofs"):
        read_landmarks("nofs://x/l.csv")


@pytest.mark.usefixtures("isolated")
def test_a_file_that_takes_all_memory_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_process, "MEMORY_LIMIT", 1 << 27)
    path = tmp_path / "bomb.parquet"
    count = 1 << 24
    lists = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.array(np.zeros(count)))
    pq.write_table(pa.table({"path": ["a"], "landmarks": lists}), path, compression="zstd")
    assert path.stat().st_size < 1 << 12
    with pytest.raises(SpecError) as caught:
        read_landmarks(str(path))
    assert str(caught.value).startswith(f"--landmarks {path}: ")
    assert "\n" not in str(caught.value)
