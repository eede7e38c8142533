"""Photographs to latents against inversion alone: what alignment adds to the time of a run.

Run ``python -m tests.bench.bench_alignment PHOTOGRAPHS``, with the folder that ``python -m
recipes.photographs`` made. Photographs of 2048x2048 with one face go through ``restyle invert``
with faces64; so do, by turns, their crops with ``--no-align``. Times are those of ``run.json``,
from the start of the first unit to the commit of the last.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from recipes.photographs.truth import read_truth
from restyle.core import align_faces, load_model
from restyle.core.errors import RejectError
from restyle.core.imaging.decoding import decode_image

ROOT = Path(__file__).resolve().parents[2]
WANTED = 1.3
SIZE = (2048, 2048)


def lay_out(photographs: Path, folder: Path, count: int) -> int:
    """Link photographs and write their crops, until there are ``count``; returns how many."""
    framing = load_model("faces64").framing
    found = [
        photographs / each.file
        for each in read_truth(photographs)
        if each.size == SIZE and each.subset == "standard" and len(each.faces) == 1
    ]
    made = 0
    for kind in ("photographs", "crops"):
        (folder / kind).mkdir()
    crops = {}
    for path in found:
        try:
            (face,) = align_faces(decode_image(path.read_bytes()), 256, framing=framing)
        except RejectError:
            continue
        crops[path] = face.image
    while made < count:
        for path, crop in crops.items():
            (folder / "photographs" / f"{made:05d}.jpg").symlink_to(path.absolute())
            crop.save(folder / "crops" / f"{made:05d}.png", compress_level=1)
            made += 1
    return made


def seconds(folder: Path, out: Path, *options: str) -> tuple[float, dict[str, float]]:
    """Time of a run from its first unit on, and seconds of its stages."""
    command = [sys.executable, "-m", "restyle.jobs.cli", "invert", folder, "--out", out]
    command += ["--model", "faces64", "--device", "cpu", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    timings = json.loads((out / "run.json").read_text())["timings"]
    return timings["images"] / timings["images_per_second"], timings["stages"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = lay_out(options.photographs, folder, options.count)
        ratios = []
        for number in range(options.rounds):
            alone, _ = seconds(folder / "crops", folder / f"alone-{number}", "--no-align")
            whole, stages = seconds(folder / "photographs", folder / f"whole-{number}")
            ratios.append(whole / alone)
            parts = ", ".join(f"{stage} {spent:.1f}" for stage, spent in stages.items())
            print(
                f"inversion alone {alone:.1f} s, with alignment {whole:.1f} s: {parts}", flush=True
            )
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(
        f"{count} photographs on {platform.processor() or platform.machine()}: "
        f"{statistics.median(ratios):.2f} times the time of inversion alone ({spread}), "
        f"at most {WANTED} wanted"
    )
    if statistics.median(ratios) > WANTED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
