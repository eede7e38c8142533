"""What ``read_latents`` costs, beside reading the same bytes and nothing else.

Run ``python -m tests.bench.bench_latents``. The output is made up: as many units as a run of that
size has, of noise, uncompressed as the pipeline writes latents. Each row is a process of its own,
and the files are in the page cache for all of them, so that no disk is measured. The time by the
clock and of the processor is that of reading alone, without imports. The best of three rounds
counts.

- ``raw``: the bytes of all files of ``latents/`` read into one array.
- ``read_latents``: the table and the array.
- ``where``: the same with a condition that half of the rows meet.
- ``similar``: the ten nearest neighbours of a latent.
- ``compacted``: ``read_latents`` after ``restyle compact``.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from restyle.pipeline.accounting.compaction import compact
from tests.pipeline.fabricated import Made, fabricate

Cost = tuple[float, float, float]
"""Seconds by the clock, seconds of processor, MiB."""

ROOT = Path(__file__).resolve().parents[2]
WANTED = 1.5
"""Times the time of reading the same bytes raw."""

_TIMED = """
import glob, os, resource, sys, time
import duckdb
import numpy as np
import pandas
from restyle.pipeline.results.latents import read_latents
started, used = time.perf_counter(), time.process_time()
{body}
print(
    time.perf_counter() - started,
    time.process_time() - used,
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
)
assert not {{"torch", "ray"}} & set(sys.modules)
"""
_RAW = """
paths = sorted(glob.glob(sys.argv[1] + "/latents/*.parquet"))
target = np.empty(sum(map(os.path.getsize, paths)), np.uint8)
at = 0
for path in paths:
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(memoryview(target)[at:]):
            at += count
assert at == len(target)
"""
_READ = """
rows, latents = read_latents(sys.argv[1], where={where!r})
assert len(rows) == len(latents)
"""

_SIMILAR = """
from restyle.pipeline.results.snapshot import read_snapshot
from restyle.pipeline.results.similar import nearest
assert nearest(read_snapshot(sys.argv[1]), np.zeros((18, 512), np.float32), 10).num_rows == 10
"""


def measure(body: str, out: Path) -> Cost:
    """What some lines take."""
    code = _TIMED.format(body=body)
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, cpu, size = map(float, done.stdout.split())
    return seconds, cpu, size


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to put the output; a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        out = Path(folder) / "out"
        fabricate(out, Made(faces=given.faces, shape=(18, 512), reconstructions="none"))
        size = sum(path.stat().st_size for path in (out / "latents").iterdir())
        print(
            f"{given.faces:,} x 18 x 512 float32, {size / 2**30:.2f} GiB; {platform.machine()}, "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        bodies = {
            "raw": _RAW,
            "read_latents": _READ.format(where=None),
            "where": _READ.format(where="id_similarity > 0.7"),
            "similar": _SIMILAR,
        }
        best = _best(bodies, out, given.rounds)
        compact(str(out))
        again = _best({"raw": _RAW, "compacted": bodies["read_latents"]}, out, given.rounds)
        _show(best)
        _show(again)


def _best(bodies: dict[str, str], out: Path, rounds: int) -> dict[str, Cost]:
    """By turns, so that whatever else the machine does falls on all alike."""
    measured = [{name: measure(body, out) for name, body in bodies.items()} for _ in range(rounds)]
    return {name: min(each[name] for each in measured) for name in bodies}


def _show(rows: dict[str, Cost]) -> None:
    raw, raw_cpu, _ = rows["raw"]
    for name, (seconds, cpu, size) in rows.items():
        verification = ""
        if name in ("read_latents", "compacted"):
            verification = f"wanted < {WANTED}: {'met' if seconds < WANTED * raw else 'MISSED'}"
        print(
            f"{name:13} {seconds:6.2f} s, {seconds / raw:5.2f} times raw; processor {cpu:6.2f} s, "
            f"{cpu / raw_cpu:5.2f} times; {size:6,.0f} MiB  {verification}".rstrip()
        )


if __name__ == "__main__":
    main()
