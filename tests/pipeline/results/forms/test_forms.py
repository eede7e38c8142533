"""Latents in the forms of other libraries against ``read_latents``, bit for bit."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import polars
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline import latent_frame, latent_reader, latent_table, map_latents, read_latents
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.exporting.export import export
from restyle.pipeline.ledger.datasets import latent_shape
from restyle.pipeline.results.forms import extras, selected_rows
from restyle.pipeline.results.forms.torch_dataset import LatentDataset
from restyle.pipeline.results.snapshot import read_snapshot
from tests.pipeline.fabricated import HOSTILE, Made, fabricate, redo
from tests.s3_server import faulty_s3

MADE = Made(faces=70, rejects=2, unit=16, shape=(6, 16), names=HOSTILE, reconstructions="none")
WHERE = "l2 < 0.02 or source like '%6%'"


@pytest.fixture(scope="module", params=["units", "packed"])
def out(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path_factory.mktemp("forms") / "out"
    storage = fabricate(folder, MADE)
    if request.param == "packed":
        compact(str(folder))
    redo(storage, MADE, 5, 2, rejected=False)
    redo(storage, MADE, 7, 2, rejected=True)
    return folder


def flat(column: pa.ChunkedArray) -> np.ndarray:
    return column.combine_chunks().flatten().to_numpy()


@pytest.mark.parametrize("where", [None, WHERE])
@pytest.mark.parametrize("columns", [None, ["source", "face"], ["latent", "l2"], []])
def test_arrow(out: Path, where: str | None, columns: list[str] | None) -> None:
    rows, w = read_latents(out, columns, where)
    table = latent_table(out, columns, where)
    assert 0 < table.num_rows == len(w) <= 69
    assert sorted(table.column_names) == sorted([*rows.columns, "latent"])
    assert latent_shape(table.schema) == (6, 16)
    assert flat(table["latent"]).tobytes() == w.tobytes()
    for name in rows.columns:
        assert table[name].to_pandas().map(str).tolist() == rows[name].map(str).tolist()


def test_arrow_is_read_batch_by_batch(out: Path) -> None:
    reader = latent_reader(out)
    first = reader.read_next_batch()
    assert 0 < first.num_rows < 69
    assert first.num_rows + reader.read_all().num_rows == 69


@pytest.mark.parametrize("where", [None, WHERE])
def test_polars(out: Path, where: str | None) -> None:
    rows, w = read_latents(out, where=where)
    frame = latent_frame(out, where=where)
    assert frame["latent"].dtype == polars.Array(polars.Float32, 96)
    assert frame["latent"].to_numpy().tobytes() == w.tobytes()
    assert frame["source"].to_list() == rows.source.tolist()
    assert frame["l2"].to_list() == rows.l2.tolist()


@pytest.mark.parametrize("missing", ["polars"])
def test_a_missing_library_is_named(
    missing: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SpecError, match=rf"restyle-pipeline\[{missing}\]"):
        latent_frame(out)


@pytest.mark.parametrize("where", [None, WHERE])
def test_torch(out: Path, where: str | None) -> None:
    rows, w = read_latents(out, where=where)
    dataset = LatentDataset(out, ["source", "l2"], where)
    assert len(dataset) == len(rows)
    for index in (0, 3, len(rows) - 1, -1):
        item = dataset[index]
        assert item.keys() == {"latent", "source", "l2"}
        assert torch.equal(item["latent"], torch.from_numpy(w[index]))
        assert (item["source"], item["l2"]) == (rows.source.iloc[index], rows.l2.iloc[index])
    with pytest.raises(IndexError):
        _ = dataset[len(rows)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_sees_every_row_once(out: Path, workers: int) -> None:
    rows, w = read_latents(out)
    loader = DataLoader(
        LatentDataset(out),
        batch_size=7,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        generator=torch.Generator().manual_seed(1),
    )
    seen = {}
    for batch in loader:
        for source, latent in zip(batch["source"], batch["latent"], strict=True):
            assert source not in seen
            seen[source] = latent.numpy().tobytes()
    assert seen == {source: each.tobytes() for source, each in zip(rows.source, w, strict=True)}


def test_no_columns(out: Path) -> None:
    dataset = LatentDataset(out, [])
    assert [item.keys() for item in dataset.__getitems__([2, 1])] == [{"latent"}, {"latent"}]


def test_rows_in_any_order_with_few_open_files(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selected_rows, "_OPEN", 2)
    rows = selected_rows.selected_rows(read_snapshot(str(out)), [])
    order = np.random.default_rng(3).integers(0, 69, 200)
    w = read_latents(out)[1]
    for part in np.split(order, 8):
        assert rows.read(part).tobytes() == w[part].tobytes()
    assert copy.copy(rows).read([4]).tobytes() == w[[4]].tobytes()
    rows.close()
    assert rows.read([68]).tobytes() == w[[68]].tobytes()
    for wrong in ([69], [-1], [0, 70]):
        with pytest.raises(IndexError, match="69 rows"):
            rows.read(wrong)


def test_the_forms_of_an_output_without_faces(tmp_path: Path) -> None:
    fabricate(tmp_path / "out", Made(faces=0, rejects=3))
    assert latent_table(tmp_path / "out").num_rows == 0
    assert len(LatentDataset(tmp_path / "out")) == 0
    assert latent_frame(tmp_path / "out").shape[0] == 0


@pytest.mark.parametrize("form", [latent_table, latent_frame, LatentDataset])
@pytest.mark.parametrize(
    ("columns", "where", "message"),
    [(["nothing"], None, "no column"), (None, "nothing > 1", "cannot answer")],
)
def test_what_cannot_be_selected(
    form: object, columns: list[str] | None, where: str | None, message: str, out: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        form(out, columns, where)


def test_on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_s3(monkeypatch):
        fabricate("s3://bucket/out", MADE)
        w = read_latents("s3://bucket/out")[1]
        assert flat(latent_table("s3://bucket/out")["latent"]).tobytes() == w.tobytes()
        items = LatentDataset("s3://bucket/out").__getitems__([60, 2, 60])
        assert torch.stack([item["latent"] for item in items]).numpy().tobytes() == (
            w[[60, 2, 60]].tobytes()
        )


def test_a_map_of_what_is_no_export(out: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="restyle export OUT --to npy"):
        map_latents(tmp_path)
    folder = export(str(out), "npy", str(tmp_path / "npy")).folder
    rows, w = map_latents(folder)
    assert len(rows) == len(w) == 69
    assert not w.flags.writeable
    shutil.copy(folder / "rows.parquet", tmp_path / "kept.parquet")
    np.save(folder / "latents.npy", w[:5])
    with pytest.raises(FatalError, match="do not belong together"):
        map_latents(folder)
    (folder / "latents.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(FatalError, match="export it again"):
        map_latents(folder)
    np.save(folder / "latents.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(FatalError, match="export it again"):
        map_latents(folder)
