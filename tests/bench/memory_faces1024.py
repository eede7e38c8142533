"""Peak memory of inverting four images with a published-size faces model on the CPU.

Run ``python -m tests.bench.memory_faces1024``. A checkpoint of random weights in the published
layout (1024x1024, ReStyle-pSp) is made by one process, so that another one's peak is that of
loading it and of five steps at batch 4 in float32, and of nothing else.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_GB = 6.0
MODULE = "tests.bench.memory_faces1024"


def make(path: Path) -> None:
    from tests.restyle_core.fabricate import checkpoint, save

    save(checkpoint("BackboneEncoder", 1024, tiny=False), path)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def measure(path: Path) -> None:
    import torch

    from restyle_core import invert, load_model

    print(f"| interpreter and imports | {peak_gb():.2f} GB | |")
    start = time.perf_counter()
    model = load_model(path, dtype="fp32", device="cpu")
    print(f"| loading | {peak_gb():.2f} GB | {time.perf_counter() - start:.1f} s |", flush=True)
    images = torch.rand(4, 3, 256, 256) * 2 - 1
    start = time.perf_counter()
    result = invert(model, images, steps=5)
    assert result.latents.shape == (4, 5, 18, 512)
    print(f"| five steps, batch 4 | {peak_gb():.2f} GB | {time.perf_counter() - start:.1f} s |")
    if peak_gb() > LIMIT_GB:
        sys.exit(f"more than {LIMIT_GB} GB")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces1024.pt"
        command = [sys.executable, "-m", MODULE]
        subprocess.run([*command, "make", str(path)], check=True)
        print(f"faces 1024, float32, {platform.processor() or platform.machine()}")
        print("| after | peak resident | time |\n| --- | --- | --- |", flush=True)
        subprocess.run([*command, "measure", str(path)], check=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        {"make": make, "measure": measure}[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
