"""Memory over a long run: it must be flat once everything is loaded.

Run ``python -m tests.bench.bench_memory``. 200,000 images of 64x64 pixels, taken as they are, go
through ``restyle invert`` with an identity-like small model, while the resident memory of the
driver, of Ray's workers and of the decoding processes is read once a second. After the first tenth
the slope of each must stay below 1 MB for 10,000 images. Pages of Ray's object store, which are
bounded by its size, do not count.
"""

from __future__ import annotations

import argparse
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]
WANTED = 1.0
"""Megabytes for 10,000 images."""

WARM_UP = 0.1
PER_TAR = 10_000

# What is watched, by a part of its command line, in the order in which it is looked for.
ROLES = {
    "decoding.child": "decoder",
    "AlignStage": "align actor",
    "InvertStage": "inversion actor",
    "restyle.jobs.cli": "driver",
}


@dataclass
class Series:
    """Memory of one process.

    Attributes:
        role: one of :data:`ROLES`.
        units: committed units at each reading.
        megabytes: private resident memory at each reading.
    """

    role: str
    units: list[int] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


def make_images(folder: Path, count: int) -> None:
    """Tars of small pictures: 200,000 files of their own would be a bench of the file system."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = []
    for _ in range(64):
        target = io.BytesIO()
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
        picture.save(target, "JPEG", quality=90)
        files.append(target.getvalue())
    for start in range(0, count, PER_TAR):
        with tarfile.open(folder / f"{start:07d}.tar", "w") as tar:
            for index in range(start, min(start + PER_TAR, count)):
                member = tarfile.TarInfo(f"{index:07d}.jpg")
                data = files[index % len(files)]
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def watch(process: psutil.Process, out: Path, every: float) -> dict[int, Series]:
    """Readings of every process until the command ends."""
    found: dict[int, Series] = {}
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        units = _units(out)
        for each in [process, *process.children(recursive=True)]:
            try:
                role = found[each.pid].role if each.pid in found else _role(each)
                memory = each.memory_info()
            except psutil.Error:
                continue
            if role is not None:
                series = found.setdefault(each.pid, Series(role))
                series.units.append(units)
                series.megabytes.append((memory.rss - memory.shared) / 2**20)
        time.sleep(every)
    return found


def _role(process: psutil.Process) -> str | None:
    line = " ".join([process.name(), *process.cmdline()])
    return next((role for part, role in ROLES.items() if part in line), None)


def _units(out: Path) -> int:
    """Committed units; all but a few are of the same size."""
    return sum(1 for _ in out.glob("_ledger/unit-*.json"))


def slopes(found: dict[int, Series], count: int) -> dict[str, tuple[int, float, float, float]]:
    """By role: processes, megabytes after the first tenth and at the end, and the worst slope."""
    rows: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    total = max((max(series.units) for series in found.values()), default=1)
    for series in found.values():
        done = np.array(series.units) * (count / max(total, 1))
        steady = (done >= WARM_UP * count) & (done < count)
        if steady.sum() < 10:
            continue
        memory = np.array(series.megabytes)[steady]
        slope = float(np.polyfit(done[steady], memory, 1)[0]) * 10_000
        rows[series.role].append((memory[:5].mean(), memory[-5:].mean(), slope))
    return {
        role: (len(of), max(row[0] for row in of), max(row[1] for row in of), max(r[2] for r in of))
        for role, of in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between readings")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        make_images(folder / "tars", options.count)
        model = make_tiny_model(folder / "tiny", align=False)
        settings = "--metrics none --reconstructions none --save-steps none --device cpu --steps 1"
        command = ["invert", folder / "tars", "--out", folder / "out", "--model", model]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "restyle.jobs.cli", *map(str, command), *settings.split()],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            found = watch(psutil.Process(process.pid), folder / "out", options.every)
        if process.wait():
            sys.exit((folder / "log").read_text())
    rows = slopes(found, options.count)
    minutes = (time.perf_counter() - started) / 60
    print(f"{options.count} images of 64x64 in {minutes:.1f} min; {platform.machine()}\n")
    print("| process | of them | after a tenth, MB | at the end, MB | MB for 10,000 images |")
    print("| --- | --- | --- | --- | --- |")
    for role, (many, first, last, slope) in rows.items():
        print(f"| {role} | {many} | {first:.0f} | {last:.0f} | {slope:+.2f} |")
    if set(rows) != set(ROLES.values()):
        sys.exit(f"watched {sorted(rows)} only")
    if max(row[3] for row in rows.values()) >= WANTED:
        sys.exit(f"more than {WANTED} MB for 10,000 images")


if __name__ == "__main__":
    main()
