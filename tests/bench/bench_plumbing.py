"""What the pipeline costs beside the work: against a plain loop with the same decode and write.

Run ``python -m tests.bench.bench_plumbing``. 20,000 pre-aligned 256x256 JPEGs and an identity model
on two cores, three times by turns: ``restyle invert``, and a loop in one process that decodes
each file, keeps a small copy of it as its latent and writes the same rows to Parquet in files of
256. The pipeline's images/s are those of ``run.json``, from the first unit's start to the last
unit's commit; the time of the whole command, with Ray's start and the report, stands beside it.
A second table shows what decoding at a reduced scale saves on large photographs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bench.identity_model import N_STYLES, SIDE, STYLE_DIM, make_identity_model, site

ROOT = Path(__file__).resolve().parents[2]
WANTED = 0.8
CORES = 2
UNIT = 256


def make_images(folder: Path, count: int) -> None:
    """Different crops of the sample photographs."""
    folder.mkdir()
    photos = [Image.open(path).convert("RGB") for path in sorted(_photos())]
    rng = np.random.default_rng(0)
    for index in range(count):
        photo = photos[index % len(photos)]
        side = rng.uniform(0.4, 1.0) * min(photo.size)
        left, top = (rng.uniform(0, length - side) for length in photo.size)
        box = (left, top, left + side, top + side)
        crop = photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
        crop.save(folder / f"{index:06d}.jpg", quality=90)


def _photos() -> list[Path]:
    return list((ROOT / "samples" / "photos").glob("*.jpg"))


def plain_loop(folder: Path, out: Path) -> float:
    """Decode each file, write its row; images per second."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from restyle.core.imaging.decoding import decode_image

    out.mkdir(parents=True)
    files = sorted(folder.iterdir())
    list_type = pa.list_(pa.field("element", pa.float32(), nullable=False), N_STYLES * STYLE_DIM)
    started = time.perf_counter()
    for start in range(0, len(files), UNIT):
        names = files[start : start + UNIT]
        latents = np.empty((len(names), N_STYLES * STYLE_DIM), np.float32)
        for row, name in zip(latents, names, strict=True):
            pixels = np.asarray(decode_image(name.read_bytes()))
            row[:] = pixels[::8, ::4, 0].reshape(-1) / np.float32(127.5) - 1
        flat = pa.array(latents.reshape(-1))
        columns = {
            "image_id": [name.name for name in names],
            "source": [str(name) for name in names],
            "latent": pa.FixedSizeListArray.from_arrays(flat, type=list_type),
        }
        pq.write_table(pa.table(columns), out / f"part-{start}.parquet", compression="zstd")
    return len(files) / (time.perf_counter() - started)


def pipeline(folder: Path, out: Path, model: Path) -> tuple[float, float]:
    """``restyle invert``: images per second of its stages, and of the whole command."""
    options = "--metrics none --reconstructions none --save-steps none --dtype fp32 --device cpu"
    command = [
        sys.executable,
        "-m",
        "restyle.jobs.cli",
        "invert",
        folder,
        "--out",
        out,
        "--model",
        model,
    ]
    started = time.perf_counter()
    subprocess.run(
        [*map(str, command), *options.split(), "--steps", "1"],
        check=True,
        cwd=ROOT,
        # Ray's workers are nice by default; beside other work both sides must fare alike.
        env={**os.environ, **site(out.parent / "site"), "RAY_worker_niceness": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - started
    run = json.loads((out / "run.json").read_text())
    done = run["counts"]["faces"]
    return run["timings"]["images_per_second"], done / seconds


def alone(function: Callable[[Path, Path], float], *paths: Path) -> float:
    """A measurement in a process of its own."""
    arguments = [function.__name__, *map(str, paths)]
    answer = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_plumbing", "--measure", *arguments],
        check=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return float(answer.stdout)


def compare(count: int, rounds: int) -> float:
    """Print the first table; the ratio of the medians."""
    loops, stages, commands = [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        make_images(folder / "images", count)
        model = make_identity_model(folder / "identity")
        for turn in range(rounds):
            loops.append(alone(plain_loop, folder / "images", folder / f"loop-{turn}"))
            rates = pipeline(folder / "images", folder / f"{turn}" / "out", model)
            stages.append(rates[0])
            commands.append(rates[1])
    print(f"{count} JPEGs of {SIDE}x{SIDE}, {rounds} rounds; {_machine()}\n")
    print("| images/s | median | least | most | of the loop |\n| --- | --- | --- | --- | --- |")
    base = statistics.median(loops)
    rows = {"plain loop": loops, "pipeline": stages, "whole command": commands}
    for label, rates in rows.items():
        middle = statistics.median(rates)
        ratio = middle / base
        print(f"| {label} | {middle:.0f} | {min(rates):.0f} | {max(rates):.0f} | {ratio:.2f} |")
    return statistics.median(stages) / base


def reduced(rounds: int) -> None:
    """Print the second table: decoding in full and at a reduced scale, for a result of 256."""
    from restyle.core.imaging.decoding import decode_image, decode_resized

    print("\n| photograph | full, ms | reduced, ms | saved | grey levels |")
    print("| --- | --- | --- | --- | --- |")
    photo = Image.open(sorted(_photos())[0]).convert("RGB")
    for megapixels in (1, 3, 12, 24):
        scale = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
        size = (round(photo.width * scale), round(photo.height * scale))
        target = io.BytesIO()
        pixels = np.asarray(photo.resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
        pixels += np.random.default_rng(0).normal(0, 4, pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(target, "JPEG", quality=92)
        data = target.getvalue()
        ways: list[Callable[[], Image.Image]] = [
            lambda data=data: decode_image(data).resize((SIDE, SIDE), Image.Resampling.BILINEAR),
            lambda data=data: decode_resized(data, (SIDE, SIDE))[0],
        ]
        times: list[float] = []
        for way in ways:
            taken = []
            for _ in range(rounds + 2):
                started = time.process_time()
                way()
                taken.append(time.process_time() - started)
            times.append(statistics.median(taken) * 1000)
        one, other = (np.asarray(way()).astype(int) for way in ways)
        saved = 1 - times[1] / times[0]
        print(
            f"| {size[0]}x{size[1]} | {times[0]:.1f} | {times[1]:.1f} | {saved:.0%} "
            f"| {np.abs(one - other).mean():.2f} |"
        )


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f} at the end"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, folder, out = options.measure
        print({"plain_loop": plain_loop}[name](Path(folder), Path(out)))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    ratio = compare(options.count, options.rounds)
    reduced(options.rounds)
    if ratio < WANTED:
        sys.exit(f"\n{ratio:.2f} of the loop's images/s; {WANTED} are wanted")


if __name__ == "__main__":
    main()
