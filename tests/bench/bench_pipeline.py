"""The pipeline against the bare refinement loop, with the published 1024x1024 architecture.

Run ``python -m tests.bench.bench_pipeline``. A model of the size of the published faces model, with
made-up weights, inverts the same pre-aligned pictures twice by turns: ``restyle invert``, which
lists, reads, decodes, writes Parquet and proves nothing lost; and a loop in one process that does
nothing but call :func:`restyle.core.inference.inversion.invert` on pixels that are in memory
already, with
the same batch size, steps, metrics, precision and threads. What both keep of the results is the
same as well. The pipeline's images/s are those of ``run.json``, from the first unit's start to the
last unit's commit; the time of the whole command stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
MODULE = "tests.bench.bench_pipeline"
WANTED = 0.95
SIDE = 256


def make_model(path: Path) -> None:
    """A checkpoint with the published keys and shapes; its weights are noise."""
    from tests.restyle_core.fabricate import checkpoint, save

    save(checkpoint("BackboneEncoder", 1024, tiny=False), path)


def make_images(folder: Path, count: int) -> None:
    folder.mkdir()
    photos = sorted((ROOT / "samples" / "photos").glob("*.jpg"))
    rng = np.random.default_rng(0)
    for index in range(count):
        photo = Image.open(photos[index % len(photos)]).convert("RGB")
        side = min(photo.size)
        left, top = (rng.uniform(0, length - side) for length in photo.size)
        crop = photo.resize((SIDE, SIDE), box=(left, top, left + side, top + side))
        crop.save(folder / f"{index:04d}.jpg", quality=95)


def bare_loop(model: str, folder: Path, options: argparse.Namespace) -> float:
    """Images per second of nothing but inversion."""
    import torch

    from restyle.core import invert, load_model

    torch.set_num_threads(options.threads)
    loaded = load_model(model, dtype=options.dtype, device=options.device)
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    # What the pipeline asks for by default; the metrics' networks are loaded inside both clocks.
    started = time.perf_counter()
    for start in range(0, len(pixels), options.batch_size):
        part = pixels[start : start + options.batch_size]
        invert(
            loaded,
            part,
            options.steps,
            reconstructions="last",
            latents="last",
            metrics=tuple(filter(None, options.metrics.split(","))),
            deltas=True,
            batch_size=len(part),
        )
    return len(pixels) / (time.perf_counter() - started)


def pipeline(
    folder: Path, model: Path, out: Path, options: argparse.Namespace
) -> tuple[float, float]:
    """Images per second from the first unit's start to the last one's commit; and overall."""
    started = time.perf_counter()
    subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "restyle.jobs.cli",
                "invert",
                folder,
                "--out",
                out,
                "--model",
                model,
            ),
            *("--no-align", "--steps", str(options.steps), "--dtype", options.dtype),
            *("--batch-size", str(options.batch_size), "--device", options.device),
            *("--metrics", options.metrics or "none"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env=_environment(options),
    )
    seconds = time.perf_counter() - started
    record = json.loads((out / "run.json").read_text())
    return record["timings"]["images_per_second"], options.count / seconds


def alone(call: str, *arguments: object) -> str:
    """Run one part of this file in a process of its own; what it prints."""
    command = [sys.executable, "-m", MODULE, "--part", call, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _environment(options: argparse.Namespace) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(options.threads)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    # A worker's first batch takes longer, once.
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--metrics", default="l2,ms_ssim,lpips,id_similarity")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def given(options: argparse.Namespace) -> list[str]:
    """The options again, for a part."""
    return [
        f"--{name.replace('_', '-')}={value}"
        for name, value in vars(options).items()
        if name != "part"
    ]


def measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model, folder = place / "faces1024.pt", place / "images"
        alone("model", model)
        make_images(folder, options.count)
        ratios = []
        print(f"{'round':>5} {'bare':>10} {'pipeline':>10} {'ratio':>6} {'whole command':>14}")
        for number in range(1, options.rounds + 1):
            loop = float(alone("bare", model, folder, *given(options)))
            busy, whole = pipeline(folder, model, place / f"out-{number}", options)
            ratios.append(busy / loop)
            print(
                f"{number:>5} {loop:>8.4f}/s {busy:>8.4f}/s {ratios[-1]:>6.3f} {whole:>12.4f}/s",
                flush=True,
            )
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"\nratio {statistics.median(ratios):.3f} ({spread}), wanted {WANTED}")
    print(
        f"{options.count} images, batch {options.batch_size}, {options.steps} steps, metrics "
        f"{options.metrics or 'none'}, dtype {options.dtype}, {options.device}, "
        f"{options.threads} threads; {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    options = parse()
    match options.part:
        case None:
            measure(options)
        case ["model", path]:
            make_model(Path(path))
        case ["bare", model, folder]:
            print(bare_loop(model, Path(folder), options))


if __name__ == "__main__":
    main()
