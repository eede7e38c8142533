"""``query`` against numpy on the same rows, on revised outputs and on a store, and under attack."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline import read_latents
from restyle.pipeline.results.query import query
from tests.pipeline.fabricated import HOSTILE, Made, fabricate, image, redo
from tests.s3_server import faulty_s3, first

MADE = Made(faces=40, rejects=5, unit=16, names=HOSTILE)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("query") / "out"
    fabricate(folder, MADE)
    return folder


def ask(out: Path | str, sql: str) -> pa.Table:
    return query(str(out), sql).read_all()


def test_numbers_agree_with_numpy(out: Path) -> None:
    rows, w = read_latents(out)
    answer = ask(
        out,
        "select count(*) n, avg(l2) l2, max(lpips) lpips, sum(latent[1]) w from latents "
        "where id_similarity > 0.85 -- and nothing else",
    ).to_pylist()[0]
    kept = (rows.id_similarity > 0.85).to_numpy()
    assert 0 < kept.sum() < 40
    assert answer["n"] == kept.sum()
    assert answer["l2"] == pytest.approx(rows.l2[kept].astype(float).mean())
    assert answer["lpips"] == pytest.approx(rows.lpips[kept].max())
    assert answer["w"] == pytest.approx(float(w[kept, 0, 0].sum()), rel=1e-5)


def test_every_dataset_and_joins(out: Path) -> None:
    assert ask(out, "show tables")["name"].to_pylist() == [
        *(f"all_{name}" for name in ("latents", "reconstructions", "rejects", "steps")),
        *("latents", "reconstructions", "rejects", "steps"),
    ]
    joined = ask(
        out,
        "select l.source, r.step, octet_length(r.image) size from latents l "
        "join reconstructions r using (image_id, revision, face) order by 1, 2",
    )
    assert joined.num_rows == 40 * 3
    assert ask(out, "select reason, count(*) n from rejects group by 1").num_rows == 2


def test_names_come_back_as_they_are(out: Path) -> None:
    found = ask(out, "select source from latents").column(0).to_pylist()
    assert found[: len(HOSTILE)] == HOSTILE


def test_current_revisions(tmp_path: Path) -> None:
    made = Made(faces=6, shape=(3, 4))
    storage = fabricate(tmp_path, made)
    redo(storage, made, 2, 2, rejected=False)
    redo(storage, made, 4, 2, rejected=True)
    third, fifth = image(made, 2).image_id, image(made, 4).image_id
    sql = "select image_id, revision from {} order by 1, 2"
    current = ask(tmp_path, sql.format("latents")).to_pylist()
    assert {"image_id": third, "revision": 2} in current
    assert {"image_id": third, "revision": 1} not in current
    assert fifth not in [row["image_id"] for row in current]
    assert ask(tmp_path, sql.format("rejects")).to_pylist() == [{"image_id": fifth, "revision": 2}]
    assert ask(tmp_path, sql.format("all_latents")).num_rows == 7


def test_an_output_without_rows_has_the_columns(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=0, rejects=0))
    assert ask(tmp_path, "select source, latent, l2 from latents").num_rows == 0


OUTSIDE = [
    "select * from read_text('{file}')",
    "select * from '{file}'",
    "select * from read_csv('{file}')",
    "select * from read_parquet('{parquet}')",
    "select * from glob('/*')",
    "select * from latents where source in (select content from read_text('{file}'))",
    "select * from query('select * from read_text(''{file}'')')",
    "select * from sqlite_scan('{file}', 'x')",
    "select getenv('HOME')",
    "select * from 'https://127.0.0.1:9/x.parquet'",
    "select * from secret_of_this_test",
]


@pytest.mark.parametrize("sql", OUTSIDE)
def test_nothing_outside_is_reached(out: Path, tmp_path: Path, sql: str) -> None:
    secret_of_this_test = pa.table({"x": [1]})
    assert secret_of_this_test.num_rows == 1
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    # Not even the output's own files, save through the views.
    parquet = next((out / "latents").iterdir())
    with pytest.raises(SpecError, match="cannot answer") as caught:
        ask(out, sql.format(file=file, parquet=parquet))
    assert "\n" not in str(caught.value)


WRITES = [
    "copy latents to '{target}'",
    "copy (select 1) to '{target}'",
    "export database '{target}'",
    "attach '{target}' as x",
    "create table x as select 1",
    "create or replace view latents as select 1",
    "drop view latents",
    "insert into latents select * from latents",
    "delete from latents",
    "update latents set l2 = 0",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "reset enable_external_access",
    "set lock_configuration = false",
    "pragma temp_directory='{target}'",
    "call pragma_version()",
    "prepare x as select 1",
    "begin",
    "checkpoint",
    "select 1; copy latents to '{target}'",
    "select 1; select 2",
    "explain analyze copy latents to '{target}'",
    "",
    "-- nothing",
    "select",
    "select \x00",
    "selec 1",
]


@pytest.mark.parametrize("sql", WRITES)
def test_nothing_is_changed(out: Path, tmp_path: Path, sql: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(SpecError):
        ask(out, sql.format(target=tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_an_error_while_the_answer_is_computed(out: Path) -> None:
    with pytest.raises(SpecError, match="cannot answer"):
        ask(out, "select source::int from latents")


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=4))
    (path,) = (tmp_path / "latents").iterdir()
    path.write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(FatalError) as caught:
        ask(tmp_path, "select sum(l2) from latents")
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_ledger_that_names_files_elsewhere(tmp_path: Path) -> None:
    fabricate(tmp_path / "secret", Made(faces=4))
    fabricate(tmp_path / "out", Made(faces=4, seed=1))
    (entry,) = (tmp_path / "out" / "_ledger").glob("unit-*")
    (wanted,) = (tmp_path / "secret" / "latents").iterdir()
    text = entry.read_text()
    named = f"latents/{wanted.name}"
    assert named in text
    entry.write_text(text.replace(named, f"latents/../../secret/{named}"))
    for read in (lambda: ask(tmp_path / "out", "select 1"), lambda: read_latents(tmp_path / "out")):
        with pytest.raises(FatalError, match="is damaged"):
            read()


def test_a_folder_that_is_no_utf_8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    fabricate(folder, Made(faces=4))
    with pytest.raises(SpecError, match="UTF-8"):
        ask(str(folder), "select 1")
    assert len(read_latents(folder)[1]) == 4


def test_a_store_that_fails_for_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTYLE_RETRIES", "6:0.01")
    with faulty_s3(monkeypatch) as server:
        storage = fabricate("s3://bucket/out", Made(faces=20, unit=8))
        server.rule = first(2, "503", r"^GET .*latents/")
        answer = ask("s3://bucket/out", "select l2 from latents where l2 > 0")
        assert server.met["503"] == 2
        server.rule = lambda method, path: ""
    assert storage.uri == "s3://bucket/out"
    assert np.isfinite(answer["l2"].to_numpy()).all()
    assert answer.num_rows == 20
