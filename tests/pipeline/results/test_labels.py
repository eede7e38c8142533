"""Labels that other programs wrote find the faces of an output."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.results.labelled import read_labelled
from restyle.pipeline.results.labels import label_faces
from restyle.pipeline.results.latents import read_latents
from tests.pipeline.fabricated import Made, fabricate

NAMES = ["/a/x.jpg", "/b/x.jpg", "tar::y.jpg", "z.jpg"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    fabricate(folder, Made(faces=12, names=NAMES, reconstructions="none"))
    return folder


def labels_of(rows: pd.DataFrame) -> pd.DataFrame:
    """A label for every face but the first, and one for nobody."""
    known = rows.iloc[1:]
    table = pd.DataFrame(
        {"source": known.source, "image_id": known.image_id, "face": known.face}
    ).assign(smile=np.arange(1.0, len(rows)))
    nobody = {"source": "nobody.jpg", "image_id": "ff", "face": 0, "smile": 9.0}
    return pd.concat([table, pd.DataFrame([nobody])], ignore_index=True)


@pytest.mark.parametrize("writer", ["pandas", "duckdb", "csv", "tsv", "large strings"])
@pytest.mark.parametrize("keys", [("source",), ("image_id",), ("image_id", "face")])
def test_each_program_s_table(
    out: Path, tmp_path: Path, writer: str, keys: tuple[str, ...]
) -> None:
    rows, latents = read_latents(out)
    labels = labels_of(rows)[[*keys, "smile"]]
    path = tmp_path / ("labels" + {"csv": ".csv", "tsv": ".tsv"}.get(writer, ".parquet"))
    if writer == "pandas":
        labels.to_parquet(path, index=True)
    elif writer == "duckdb":
        duckdb.sql("from labels").write_parquet(str(path))
    elif writer == "large strings":
        # As polars writes text.
        table = pa.Table.from_pandas(labels)
        kinds = [pa.large_string() if pa.types.is_string(f.type) else f.type for f in table.schema]
        pq.write_table(
            table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True)))), path
        )
    else:
        labels.to_csv(path, index=False, sep="," if writer == "csv" else "\t")
    found = label_faces(str(out), path, "smile")
    np.testing.assert_array_equal(found.latents, latents)
    np.testing.assert_array_equal(found.scores, [np.nan, *range(1, len(rows))])
    assert found.unused == 1


def test_a_name_is_that_of_one_photograph(out: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("source,smile\nx.jpg,1\ny.jpg,2\nz.jpg,true\n/a/x.jpg,4\n")
    with pytest.raises(SpecError, match="holds string, not numbers"):
        label_faces(str(out), tmp_path / "l.csv", "smile")
    (tmp_path / "l.csv").write_text("source,smile\nx.jpg,1\ny.jpg,2\nz.jpg,3\n/a/x.jpg,4\n")
    found = label_faces(str(out), tmp_path / "l.csv", "smile")
    # Two photographs are called x.jpg.
    assert found.unused == 1
    sources = read_latents(out)[0].source
    labelled = dict(zip(sources, found.scores, strict=True))
    assert (labelled["/a/x.jpg"], labelled["tar::y.jpg"], labelled["z.jpg"]) == (4, 2, 3)
    assert np.isnan(labelled["/b/x.jpg"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,smile\nx,1\n", "neither a column 'image_id' nor 'source'; it has name, smile"),
        ("source,joy\nx,1\n", "no column 'smile'; it has source, joy"),
        ("source,smile\nz.jpg,1\nz.jpg,2\n", "labels face 0 of 'z.jpg' twice"),
        ("source,smile,face\nz.jpg,1,a\n", "'face' holds 'a'"),
        ("source,smile\nz.jpg,high\n", "holds string, not numbers"),
        ("source,smile\nz.jpg,1,2,3\n", "is no table of labels"),
        ("", "is no table of labels"),
    ],
)
def test_wrong_tables_are_one_line(out: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(SpecError) as caught:
        label_faces(str(out), tmp_path / "labels.csv", "smile")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


VALUES = np.random.default_rng(0).normal(size=(5, 2, 4)).astype(np.float32)
FLAT = VALUES.reshape(5, 8)


def lists(kind: pa.DataType) -> pa.Array:
    return pa.array(FLAT.tolist(), kind)


@pytest.mark.parametrize(
    "column",
    [
        lists(pa.list_(pa.float32())),
        lists(pa.large_list(pa.float32())),
        lists(pa.list_(pa.float64(), 8)),
        pa.array(VALUES.tolist(), pa.list_(pa.list_(pa.float32()))),
        pa.array(VALUES.tolist(), pa.large_list(pa.list_(pa.float32(), 4))),
    ],
    ids=["list", "large list", "fixed", "nested", "nested large"],
)
@pytest.mark.parametrize("writer", ["arrow", "duckdb"])
def test_lists_of_one_length(tmp_path: Path, column: pa.Array, writer: str) -> None:
    table = pa.table({"latent": column, "flag": [True, False, None, True, False]})
    path = tmp_path / "w.parquet"
    if writer == "arrow":
        pq.write_table(table, path)
    else:
        rows = duckdb.sql('select latent, flag, 1.5::decimal(4, 2) as d from "table"')
        rows.write_parquet(str(path))
        assert read_labelled(path, "d")[1].tolist() == [1.5] * 5
    latents, scores = read_labelled(path, "flag")
    np.testing.assert_array_equal(latents.reshape(5, 2, 4), VALUES)
    np.testing.assert_array_equal(scores, [1, 0, np.nan, 1, 0])


def test_a_pandas_column_of_arrays(tmp_path: Path) -> None:
    frame = pd.DataFrame({"latent": list(FLAT), "age": range(5)})
    frame.to_parquet(tmp_path / "w.parquet")
    np.testing.assert_array_equal(read_labelled(tmp_path / "w.parquet", "age")[0], FLAT)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1.0], [1.0, 2.0]], "lists of unlike lengths"),
        ([[1.0, None], [1.0, 2.0]], "empty somewhere"),
        ([[], []], "lists of unlike lengths"),
        ([[[1.0]], [[1.0], [2.0]]], "lists of unlike lengths"),
    ],
)
def test_lists_that_are_no_latents(tmp_path: Path, values: list[object], words: str) -> None:
    pq.write_table(pa.table({"latent": values}), tmp_path / "w.parquet")
    with pytest.raises(SpecError, match=words):
        read_labelled(tmp_path / "w.parquet", None)
