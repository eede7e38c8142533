"""Thousands of hostile inputs in one run, with photographs among them.

``python -m tests.soak.hostile_inputs`` makes them, runs ``restyle invert`` and counts: every input
has exactly one row or its faces, nothing stalls, memory stays bounded, the run exits with 0 and
``verify`` is clean. A test of ``tests/faults`` runs a small part.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.sources.source_image import image_id
from tests.command import start
from tests.soak.hostile_world import World, make_world

MOST_MEMORY = 6 * 2**30
LONGEST_STALL = 300.0
_OPTIONS = "--model faces64 --steps 1 --metrics none --reconstructions none --device cpu"


@dataclass
class Watch:
    """What a run used.

    Attributes:
        memory: bytes of its processes at most, what they share counted once for each of them.
        stall: seconds at most without a new file in its ledger.
    """

    memory: int = 0
    stall: float = 0.0

    def follow(self, process: subprocess.Popen[str], out: Path) -> None:
        root, known, since = psutil.Process(process.pid), -1, time.monotonic()
        while process.poll() is None:
            self.memory = max(self.memory, _memory(root))
            ledger = out / "_ledger"
            entries = sum(1 for _ in ledger.glob("unit-*")) if ledger.is_dir() else 0
            if entries != known:
                known, since = entries, time.monotonic()
            self.stall = max(self.stall, time.monotonic() - since)
            time.sleep(0.3)


def run(world: World, out: Path, timeout: float) -> tuple[int, str, Watch]:
    """Exit code and standard error of the run, and what it used."""
    process = start("invert", world.folder, "--out", out, *_OPTIONS.split())
    watch = Watch()
    watching = threading.Thread(target=watch.follow, args=(process, out))
    watching.start()
    try:
        _, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
        watching.join()
    return process.returncode, errors, watch


IMAGE_ENDINGS = tuple(
    f".{name}".encode()
    for name in ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "ppm"]
)


def faults_of(world: World, out: Path) -> list[str]:
    """What is wrong with an output; nothing where every input stands in it exactly once."""
    latents = pd.read_parquet(out / "latents", columns=["image_id", "revision", "face"])
    rejects = pd.read_parquet(out / "rejects", columns=["image_id", "revision", "reason"])
    inverted, rejected = Counter(latents.image_id), Counter(rejects.image_id)
    wrong = [f"verify: {problem}" for problem in verify(str(out)).problems]
    wrong += [f"{key} has {n} rows in latents" for key, n in inverted.items() if n != 1]
    wrong += [f"{key} has {n} rejects" for key, n in rejected.items() if n != 1]
    wrong += [f"{key} is inverted and rejected" for key in inverted.keys() & rejected.keys()]
    for name in world.photographs:
        if not inverted[image_id(b"file://" + name)]:
            wrong.append(f"{name!r} is not inverted")
    for name in world.files:
        key = image_id(b"file://" + name)
        rows = inverted[key] + rejected[key]
        # What neither its name nor its beginning shows to be an image is passed over.
        if rows > 1 or (not rows and name.lower().endswith(IMAGE_ENDINGS)):
            wrong.append(f"{name!r} has {rows} rows")
    elsewhere = {each for each in world.entries if not _is_within(each)}
    sources = pd.read_parquet(out / "rejects", columns=["source"]).source
    found = sum(not source.startswith(f"{world.folder}/") for source in sources)
    # A fuzzed list may have made some more.
    if found < len(elsewhere):
        wrong.append(f"{found} rows for {len(elsewhere)} entries that lead elsewhere")
    return wrong


def _is_within(entry: str) -> bool:
    """Whether an entry is a path that begins at its list."""
    return "://" not in entry and not entry.startswith("/") and len(entry) < 32_000


def count(out: Path) -> tuple[int, Counter[str]]:
    """Images that were inverted, and rejects by reason."""
    latents = pd.read_parquet(out / "latents", columns=["image_id"])
    rejects = pd.read_parquet(out / "rejects", columns=["reason"])
    return len(latents), Counter(rejects.reason)


def _memory(root: psutil.Process) -> int:
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            used = process.memory_info()
        except psutil.Error:
            continue
        total += used.rss - used.shared
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--names", type=int, default=200)
    parser.add_argument("--entries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=7200.0, help="seconds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "inputs"
        folder.mkdir()
        world = make_world(folder, given.files, given.names, given.entries, given.seed)
        out = Path(place) / "out"
        began = time.monotonic()
        code, errors, watch = run(world, out, given.timeout)
        seconds = time.monotonic() - began
        wrong = [] if not code else [f"exit code {code}: {errors[-2000:]}"]
        if not code:
            wrong += faults_of(world, out)
            inverted, rejects = count(out)
            reasons = ", ".join(f"{reason} {number:,}" for reason, number in rejects.most_common())
            print(f"{inverted:,} inverted, {rejects.total():,} rejected: {reasons}")
        if watch.memory > MOST_MEMORY:
            wrong.append(f"{watch.memory / 2**30:.1f} GiB of memory")
        if watch.stall > LONGEST_STALL:
            wrong.append(f"{watch.stall:.0f} s without progress")
        print(
            f"{given.files:,} fuzzed files, {given.names} names, {given.entries} entries in "
            f"{seconds:.0f} s; {watch.memory / 2**30:.2f} GiB at most, {watch.stall:.0f} s at most "
            f"between two units; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        )
        # Paths deeper than Python's own way to remove them.
        subprocess.run(["rm", "-rf", os.fspath(folder / "names")], check=True)
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(wrong[:50]) or "clean")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
