"""What ``restyle similar`` costs on a run that is larger than memory.

Run ``python -m tests.bench.bench_similar``. The output is made up: as many units, plans and entries
as a run of that size has, of noise, uncompressed as the pipeline writes latents. Each row is the
command in a process of its own, imports included, with the most memory that it held at once.

- ``raw``: the files of ``latents/`` read, a buffer of 16 MiB at a time, and forgotten.
- ``a latent``: ``restyle similar OUT latent.npy``.
- ``an id``, ``a name``: ``restyle similar OUT`` with what the face is called, which must be found.
- ``no face``: a name that there is none of.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from restyle.pipeline.accounting.run_record import write_run
from restyle.pipeline.inversion.operation import INVERSION
from restyle.pipeline.ledger.manifest import PART_UNITS, Origin, new_unit, write_plan
from restyle.pipeline.storage.filesystem import open_storage
from tests.pipeline.fabricated import Made, finish, image, record

ROOT = Path(__file__).resolve().parents[2]

_WATCHED = """
import os, sys, time
def raw(out):
    buffer = bytearray(1 << 24)
    for entry in os.scandir(out + "/latents"):
        with open(entry.path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
try:
    if sys.argv[1] == "raw":
        raw(sys.argv[2])
    else:
        from restyle.jobs.cli import main
        main()
finally:
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(time.process_time(), peak / 1024, file=sys.stderr)
"""


def make(out: Path, made: Made) -> None:
    """As :func:`tests.pipeline.fabricated.fabricate`, a file of the manifest at a time."""
    storage = open_storage(str(out))
    INVERSION.write_settings(storage, made.settings)
    inputs = range(made.faces)
    starts = range(0, made.faces, made.unit)
    for first in range(0, len(starts), PART_UNITS):
        units = [
            new_unit(at // made.unit, [image(made, i) for i in inputs[at : at + made.unit]])
            for at in starts[first : first + PART_UNITS]
        ]
        write_plan(storage, units, Origin("/photos"))
        for unit in units:
            finish(storage, made, unit, set())
    write_run(storage, record(made))


def measure(command: Sequence[object]) -> tuple[float, float, float, int]:
    """Seconds by the clock and of processor, most MiB at once, and the exit code."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    used, peak = map(float, done.stderr.splitlines()[-1].split())
    return seconds, used, peak, done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--styles", type=int, default=10, help="10 are those of 64 x 64 pixels")
    parser.add_argument("--folder", type=Path, help="where to put the output; a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        out = Path(folder) / "out"
        made = Made(
            faces=given.faces, shape=(given.styles, 512), reconstructions="none", save_steps="none"
        )
        make(out, made)
        latent = Path(folder) / "latent.npy"
        np.save(latent, np.zeros(made.shape, np.float32))
        show(out, latent, made)


def show(out: Path, latent: Path, made: Made) -> None:
    size = sum(path.stat().st_size for path in (out / "latents").iterdir())
    print(
        f"{made.faces:,} x {made.shape[0]} x 512 float32, {size / 2**30:.1f} GiB; "
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    wanted = image(made, made.faces // 2)
    similar = ["similar", out]
    for name, command in {
        "raw": ["raw", out],
        "a latent": [*similar, latent],
        "an id": [*similar, wanted.image_id],
        "a name": [*similar, Path(wanted.source).name],
        "no face": [*similar, "nobody.jpg"],
    }.items():
        seconds, cpu, peak, code = measure(command)
        if code != (2 if name == "no face" else 0):
            raise SystemExit(f"{name}: exit code {code}")
        print(f"{name:9} {seconds:7.1f} s, processor {cpu:6.1f} s, {peak:6,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
