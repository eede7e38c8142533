"""Reading latents with their scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.results.labelled import read_labelled

VALUES = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)


def write(path: Path, shape: str | None = None, kind: pa.DataType | None = None) -> Path:
    metadata = None if shape is None else {"shape": shape}
    column = pa.FixedSizeListArray.from_arrays(pa.array(VALUES.reshape(-1), kind), 8)
    field = pa.field("latent", column.type, metadata=metadata)
    scores = pa.array([1, None, 3, 4, 5], pa.int16())
    words = pa.array(["a"] * 5)
    schema = pa.schema([field, ("age", pa.int16()), ("name", pa.string())])
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table([column, scores, words], schema=schema), path)
    return path


def test_latents_come_in_their_shape(tmp_path: Path) -> None:
    latents, scores = read_labelled(write(tmp_path / "w.parquet", kind=pa.float64()), "age")
    np.testing.assert_array_equal(latents, VALUES)
    np.testing.assert_array_equal(scores, [1, np.nan, 3, 4, 5])
    wide = read_labelled(write(tmp_path / "wide.parquet", "[2, 4]"), None)[0]
    np.testing.assert_array_equal(wide, VALUES.reshape(5, 2, 4))


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "latents" / f"{name}.parquet", "[2, 4]")
    latents, scores = read_labelled(tmp_path / "latents", "age")
    assert latents.shape == (10, 2, 4)
    assert len(scores) == 10


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "w.parquet")
    (tmp_path / "no.parquet").write_text("no Parquet")
    pq.write_table(pa.table({"latent": ["a", "b"]}), tmp_path / "words.parquet")
    for name, score, words in (
        ("w.parquet", "beauty", "no column 'beauty'; it has latent, age, name"),
        ("w.parquet", "name", "string, not numbers"),
        ("no.parquet", None, "is no Parquet"),
        ("words.parquet", None, "not lists of numbers"),
        ("none.parquet", None, "does not exist"),
    ):
        with pytest.raises(SpecError, match=words):
            read_labelled(path.with_name(name), score)


@pytest.mark.parametrize(
    "shape", ["null", "[2, 5]", "[8]", "no JSON", '["a", "b"]', "[2, null]", "{"]
)
def test_a_shape_that_is_none_is_one_line(tmp_path: Path, shape: str) -> None:
    with pytest.raises(SpecError, match=r"w\.parquet is no Parquet of latents: \S") as caught:
        read_labelled(write(tmp_path / "w.parquet", shape), None)
    assert "\n" not in str(caught.value)


def test_damaged_files_and_names_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "w.parquet")
    whole = path.read_bytes()
    for name, data in (
        ("cut", whole[:-20]),
        ("name", whole.replace(b"latent", b"\xff\xfeaten")),
        ("pages", whole[:100] + bytes(100) + whole[200:]),
    ):
        damaged = tmp_path / f"{name}.parquet"
        damaged.write_bytes(data)
        with pytest.raises(SpecError) as caught:
            read_labelled(damaged, "age")
        assert "\n" not in str(caught.value)


def test_large_whole_numbers_are_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "w.parquet")
    table = pq.read_table(path)
    column = pa.array([2**62 + 1, 2**53 + 1, 0, -(2**62), None], pa.int64())
    pq.write_table(table.append_column("large", column), path)
    _, scores = read_labelled(path, "large")
    np.testing.assert_allclose(scores, [2.0**62, 2.0**53, 0, -(2.0**62), np.nan])
