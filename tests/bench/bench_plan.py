"""What planning and resuming cost at a million inputs, and what listing does.

Run ``python -m tests.bench.bench_plan``. Four rows, each a process of its own:

- ``plan``: ``restyle plan`` of a Parquet list of URIs, none of which is opened.
- ``plan again``: the same, with nothing new.
- ``resume``: ``restyle invert`` on that manifest with every unit committed: nothing to do. The
  ledger's entries are made up for it, as rejects, which the driver sees no further than their
  entries.
- ``list``: ``restyle plan`` of a folder with as many files, or as ``--files`` says.

The time is the whole command's by the clock and of the processor, the memory its most
(``ru_maxrss``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.operation import INVERSION
from restyle.pipeline.inversion.task import InversionTask
from restyle.pipeline.ledger.datasets import REJECTS, encode, schema
from restyle.pipeline.ledger.entries import UnitRecord, WrittenFile, commit
from restyle.pipeline.ledger.manifest import PlanReader, read_units
from restyle.pipeline.ledger.part_names import file_name
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.storage.filesystem import open_storage

ROOT = Path(__file__).resolve().parents[2]
WANTED = {"plan": (60.0, 1024.0), "resume": (20.0, 1024.0)}
"""Seconds and MiB at a million inputs."""

Row = tuple[str, int, float, float, float]

_MEASURE = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""

_MODEL = ("--model", "faces64", "--dtype", "fp32", "--device", "cpu")


def measure(*words: str) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of processor and MiB of a ``restyle`` command."""
    command = [sys.executable, "-m", "restyle.jobs.cli", *words]
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command], cwd=ROOT, capture_output=True, text=True
    )
    last = run.stdout.split()
    if run.returncode or last[0] != "0":
        raise SystemExit(run.stderr)
    return float(last[1]), float(last[2]), float(last[3])


def make_list(path: Path, count: int) -> None:
    """A Parquet list of URIs that look like a bucket's."""
    uris = (f"s3://photos/{index % 997:03d}/{index:09d}.jpg" for index in range(count))
    pq.write_table(pa.table({"uri": pa.array(uris, pa.string())}), path)


def make_files(folder: Path, count: int) -> None:
    """Empty files, a thousand to a folder."""
    for index in range(count):
        if index % 1000 == 0:
            (folder / f"{index // 1000:05d}").mkdir(parents=True)
        (folder / f"{index // 1000:05d}" / f"{index:09d}.jpg").touch()


def commit_all(source: Path, out: Path) -> None:
    """Make every unit of a manifest look done: all inputs rejected."""
    asked = InversionSettings(model="faces64", dtype="fp32")
    settings = InversionTask.of(Request(str(source), str(out), asked, device="cpu")).settings
    storage = open_storage(str(out))
    INVERSION.write_settings(storage, settings)
    plans = PlanReader(storage)
    for ref in read_units(storage):
        images = plans.read(ref).images
        count = len(images)
        columns = {
            "image_id": [image.image_id for image in images],
            "revision": [1] * count,
            "source": [image.source for image in images],
            "stage": ["read"] * count,
            "reason": ["unreadable"] * count,
            "message": ["made up"] * count,
        }
        data = encode(pa.table(columns, schema=schema(REJECTS, settings, (0, 0))))
        name = file_name(REJECTS, ref.name, settings.fingerprint)
        # Without waiting for the disk at each of thousands of files.
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        record = UnitRecord(
            unit=ref.name,
            fingerprint=settings.fingerprint,
            images=count,
            faces=0,
            rejects={"unreadable": count},
            files=(WrittenFile(name=name, rows=count, size=len(data), sha256=digest),),
            metrics={},
            seconds={"align": 1.0, "invert": 1.0},
        )
        commit(storage, record)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs in the list")
    parser.add_argument("--files", type=int, help="files in the folder; as many by default")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    given = parser.parse_args()
    files = given.count if given.files is None else given.files
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source, out = folder / "list.parquet", folder / "out"
        make_list(source, given.count)

        def add(name: str, count: int, *words: str) -> None:
            rows.append((name, count, *measure(*words)))
            print(f"{name}: {rows[-1][2]:.1f} s, {rows[-1][4]:.0f} MiB", file=sys.stderr)

        add("plan", given.count, "plan", str(source), "--out", str(out))
        add("plan again", given.count, "plan", str(source), "--out", str(out))
        _timed("the ledger is made", lambda: commit_all(source, out))
        invert = ["invert", str(source), "--out", str(out), *_MODEL]
        # The first writes run.json and the report, as a run that was killed at its end would.
        add("conclude", given.count, *invert)
        add("resume", given.count, *invert)
        if files:
            _timed("the files are made", lambda: make_files(folder / "files", files))
            add("list", files, "plan", str(folder / "files"), "--out", str(folder / "listed"))
    _show(rows)
    if given.json:
        given.json.write_text(json.dumps(rows))


def _timed(what: str, do: Callable[[], None]) -> None:
    started = time.perf_counter()
    do()
    print(f"{what} in {time.perf_counter() - started:.0f} s", file=sys.stderr)


def _show(rows: list[Row]) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    heading = f"{'inputs':>10} {'seconds':>8} {'of cpu':>7} {'inputs/s':>9} {'MiB':>6}"
    print(f"{'':12} {heading}  wanted")
    for name, count, seconds, cpu, size in rows:
        wanted = ""
        if name in WANTED:
            most, most_size = WANTED[name]
            wanted = f"< {most:.0f} s and < {most_size:.0f} MiB at 1,000,000"
            if count >= 1_000_000:
                is_met = seconds < most and size < most_size
                wanted += ": met" if is_met else ": MISSED"
        line = f"{count:10,} {seconds:8.1f} {cpu:7.1f} {count / seconds:9,.0f} {size:6.0f}"
        print(f"{name:12} {line}  {wanted}".rstrip())


if __name__ == "__main__":
    main()
