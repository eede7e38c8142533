"""``restyle query`` as a person runs it: tables, csv and JSON, and one line for what is wrong."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from restyle.jobs.display.answers import MOST_ROWS
from tests.command import heavy_imports, start
from tests.pipeline.fabricated import HOSTILE, Made, fabricate
from tests.warm_command import restyle


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("query") / "out"
    fabricate(folder, Made(faces=12, names=HOSTILE))
    return folder


def test_a_table_shows_names_harmlessly(out: Path) -> None:
    done = restyle("query", out, "select source, l2, latent, quad from latents")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["source", "l2", "latent", "quad"]
    assert len(lines) == 2 + 12
    assert "two\\nlines\\tand a tab.jpg" in done.stdout
    assert "\u202e" not in done.stdout
    assert "80 in all]" in done.stdout


def test_csv_and_json_are_complete(out: Path) -> None:
    sql = "select source, l2, image from latents join reconstructions using (source)"
    rows = list(csv.reader(io.StringIO(restyle("query", out, sql, "--format", "csv").stdout)))
    lines = restyle("query", out, sql, "--format", "json").stdout.splitlines()
    assert rows[0] == ["source", "l2", "image"]
    assert [row[0] for row in rows[1:]] == [json.loads(line)["source"] for line in lines]
    assert {row[0] for row in rows[1:]} >= set(HOSTILE)
    assert len(lines) == 36
    assert rows[1][2].startswith("iVBORw0KGgo")


@pytest.mark.parametrize("option", ["--out", "--to"])
def test_all_rows_go_to_a_file(out: Path, tmp_path: Path, option: str) -> None:
    sql = "select source, l2, latent, image from latents join reconstructions using (source)"
    for end, form in ((".csv", "csv"), (".json", "json"), (".jsonl", "json")):
        to = tmp_path / f"rows{end}"
        done = restyle("query", out, sql, option, to)
        assert (done.returncode, done.stdout) == (0, f"{to}\n")
        assert to.read_text(encoding="utf-8") == restyle("query", out, sql, "--format", form).stdout
    to = tmp_path / "rows.parquet"
    assert restyle("query", out, sql, option, to).returncode == 0
    table = pq.read_table(to, use_threads=False)
    assert table.num_rows == 36
    assert set(table["source"].to_pylist()) >= set(HOSTILE)
    assert table["image"][0].as_py().startswith(b"\x89PNG")
    wrong = restyle("query", out, sql, option, tmp_path / "rows.xlsx")
    assert wrong.returncode == 2
    assert "ends in .parquet, .csv, .json, .jsonl" in wrong.stderr


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("drop table latents", "one question"),
        ("select nothing from latents", 'column "nothing"'),
        ("select * from '/etc/passwd'", "does not exist"),
        ("select '\udcff'", "bytes that are not text in UTF-8"),
        ("select 'infinity'::timestamp as forever", "column 'forever' holds what cannot be"),
    ],
)
def test_errors_are_one_line(out: Path, sql: str, words: str) -> None:
    done = restyle("query", out, sql)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_long_answer_is_cut_and_says_so(out: Path) -> None:
    done = restyle("query", out, "select i from range(2000) t(i)")
    assert len(done.stdout.splitlines()) == 2 + MOST_ROWS
    assert "--format csv" in done.stderr


def test_whoever_reads_may_stop(out: Path) -> None:
    process = start("query", out, "select i from range(300000) t(i)", "--format", "csv")
    assert process.stdout is not None
    assert process.stdout.readline() == "i\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    # As if all had been read: exit codes do not depend on who listens.
    assert process.wait() == 0


def test_neither_torch_nor_ray(out: Path) -> None:
    done, imported = heavy_imports("query", out, "select 1")
    assert done.returncode == 0
    # Arrow loads pandas.
    assert imported <= {"pandas"}
