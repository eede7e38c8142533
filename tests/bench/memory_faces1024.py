"""Memory and start of a published-size faces model on the CPU.

Run ``python -m tests.bench.memory_faces1024``. A model of random weights in the published shape
(1024x1024, ReStyle-pSp) is made by one process. For each dtype another one starts, loads it,
inverts one image twice and then four at once, with five steps: its peak is that of these and of
nothing else, and the first image against the second is what starting costs.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

LIMITS_GB = {"fp32": 6.0, "bf16": 3.0}
MODULE = "tests.bench.memory_faces1024"


def make(path: Path) -> None:
    from restyle.core.bench.random_model import write_random_model

    write_random_model("faces1024", path)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def measure(path: Path, dtype: str) -> None:
    def row(what: str, call: Callable[[], object]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        call()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(f"| {what} | {peak_gb():.2f} | {wall:.1f} | {processor:.1f} |", flush=True)

    import torch

    from restyle.core import invert, load_model

    imported = time.time() - psutil.Process().create_time()
    print(f"| start and imports | {peak_gb():.2f} | {imported:.1f} | {time.process_time():.1f} |")
    models = []
    row("loading", lambda: models.append(load_model(path, dtype=dtype, device="cpu")))
    images = torch.rand(4, 3, 256, 256) * 2 - 1
    row("first image", lambda: invert(models[0], images[:1], steps=5))
    row("the same again", lambda: invert(models[0], images[:1], steps=5))
    row("four at once", lambda: invert(models[0], images, steps=5))
    if peak_gb() > LIMITS_GB[dtype]:
        sys.exit(f"more than {LIMITS_GB[dtype]} GB")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces1024"
        command = [sys.executable, "-m", MODULE]
        subprocess.run([*command, str(path)], check=True)
        print(f"{platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}")
        for dtype in LIMITS_GB:
            print(f"\nfaces 1024, {dtype}\n")
            print("| after | peak, GB | s | CPU s |\n| --- | --- | --- | --- |", flush=True)
            subprocess.run([*command, str(path), dtype], check=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if len(arguments) == 2:
        measure(Path(arguments[0]), arguments[1])
    elif arguments:
        make(Path(arguments[0]))
    else:
        main()
