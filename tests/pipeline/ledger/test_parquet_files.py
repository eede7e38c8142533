"""Parts of Parquet files, from disk and from a store; and that Arrow starts no threads for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from restyle.core.errors import FatalError
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.parquet_files import columns_of, open_parquet, parquet_of, spread
from restyle.pipeline.ledger.settings import InversionSettings
from tests.pipeline.in_process import in_process

ROOT = Path(__file__).resolve().parents[3]
TABLE = pa.table(
    {"face": list(range(1000)), "image": [bytes([i % 256]) * 2000 for i in range(1000)]}
)


def encoded() -> bytes:
    target = pa.BufferOutputStream()
    pq.write_table(TABLE, target, row_group_size=100)
    data: bytes = target.getvalue().to_pybytes()
    return data


@pytest.fixture(params=["local", "not UTF-8", "remote"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "remote":
        fsspec.filesystem("memory").pipe_file("/parquet/latents/a.parquet", encoded())
        return "memory://parquet"
    folder = tmp_path / ("out" if request.param == "local" else os.fsdecode(b"caf\xe9"))
    (folder / "latents").mkdir(parents=True)
    (folder / "latents" / "a.parquet").write_bytes(encoded())
    return str(folder)


def test_any_part_of_a_file(out: str) -> None:
    with open_parquet(out, "latents/a.parquet") as parquet:
        assert columns_of(parquet, ["image", "no such", "face"]) == ["image", "face"]
        assert parquet.read(["face"], use_threads=False).equals(TABLE.select(["face"]))
        group = parquet.read_row_group(7, use_threads=False)
        assert group.equals(TABLE.slice(700, 100))
        batch = next(parquet.iter_batches(16, [3], ["image"], use_threads=False))
        assert batch["image"].to_pylist() == TABLE["image"].slice(300, 16).to_pylist()


def test_a_missing_or_damaged_file_is_one_line(out: str, tmp_path: Path) -> None:
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "b.parquet").write_bytes(b"no parquet")
    for where, name in ((out, "latents/none.parquet"), (str(tmp_path), "latents/b.parquet")):
        with pytest.raises(FatalError, match="cannot read") as caught, open_parquet(where, name):
            pass
        assert "\n" not in str(caught.value)


def test_a_file_in_memory() -> None:
    assert parquet_of(encoded()).read(use_threads=False).equals(TABLE)
    with pytest.raises(pa.ArrowException):
        parquet_of(b"no parquet")


def test_a_spread_is_even() -> None:
    assert spread([1, 2], 3) == [1, 2]
    assert spread(list(range(9)), 3) == [1, 4, 7]


LOOK = """
import os, sys
import numpy, pyarrow.parquet
import restyle.pipeline.accounting.compaction, restyle.pipeline.report.report
import restyle.pipeline.accounting.status, restyle.pipeline.accounting.verify
before = len(os.listdir("/proc/self/task"))
restyle.pipeline.accounting.verify.verify(sys.argv[1])
restyle.pipeline.accounting.status.read_status(sys.argv[1])
output = restyle.pipeline.ledger.output.Output.at(sys.argv[1])
restyle.pipeline.report.report.write_report(output)
restyle.pipeline.accounting.compaction.compact(sys.argv[1])
assert restyle.pipeline.accounting.verify.verify(sys.argv[1]).problems == []
print(len(os.listdir("/proc/self/task")) - before)
"""


def test_looking_at_an_output_leaves_no_threads_behind(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(12):
        Image.new("RGB", (40, 40), (20 * index, 0, 0)).save(tmp_path / "images" / f"{index}.png")
    settings = InversionSettings(
        model=str(tiny_model), steps=2, align=False, metrics=("l2",), dtype="fp32"
    )
    source, out = str(tmp_path / "images"), str(tmp_path / "out")
    invert_images(Request(source, out, settings, device="cpu"), engine=in_process)
    # Arrow's may end the process by SIGABRT, after all is done.
    command = [sys.executable, "-c", LOOK, out]
    threads = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert threads == "0\n"
