"""What ``restyle similar --approximate`` finds and costs, beside the exhaustive search.

Run ``python -m tests.bench.bench_index``. The latents are made up like those of faces64: two points
of its own W, by its mapping network, for the coarse and the fine styles of a face, and noise of a
twentieth of their spread in every style. Queries are such faces that the output does not hold.
Recall is the share of the ten nearest, by the exhaustive search, that the index finds. Seconds are
those of the search in a process that is running already, with the ledger read.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from restyle.core.inference.model import load_model
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.results.similar import nearest
from restyle.pipeline.results.snapshot import read_snapshot
from restyle.pipeline.similarity.approximate import approximate_neighbours
from restyle.pipeline.similarity.index import build_index
from tests.bench.bench_similar import make
from tests.pipeline import fabricated
from tests.pipeline.fabricated import Made


class Faces:
    """Makes latents [n, 10, 512] as the module describes."""

    def __init__(self) -> None:
        self._generator = load_model("faces64", device="cpu").generator
        self._random = np.random.default_rng(0)

    def __call__(self, count: int) -> np.ndarray:
        size = (2 * count, self._generator.config.z_dim)
        z = torch.from_numpy(self._random.standard_normal(size, np.float32))
        with torch.inference_mode():
            w = self._generator.mapping(z).numpy().reshape(2, count, 1, 512)
        latents = np.concatenate([w[0].repeat(4, 1), w[1].repeat(6, 1)], 1)
        noise = self._random.standard_normal(latents.shape, np.float32)
        return latents + 0.05 * w.std() * noise


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--compact", action="store_true", help="merge the files first")
    parser.add_argument("--folder", type=Path, help="where to put the output; a temporary one")
    given = parser.parse_args()
    faces = Faces()
    batch = fabricated._batch

    def filled(made: Made, crops: Sequence[object], generator: np.random.Generator) -> object:
        found = batch(made, crops, generator)
        found.latents[:, -1] = faces(len(crops))
        return found

    fabricated._batch = filled
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        out = str(Path(folder) / "out")
        make(
            Path(out),
            Made(faces=given.faces, shape=(10, 512), reconstructions="none", save_steps="none"),
        )
        if given.compact:
            compact(out)
        show(out, [*faces(given.queries)], given.faces)


def show(out: str, queries: Sequence[np.ndarray], count: int) -> None:
    snapshot = read_snapshot(out)
    began = time.perf_counter()
    build_index(snapshot)
    built = time.perf_counter() - began
    size = sum(path.stat().st_size for path in (Path(out) / "_index").iterdir())
    print(
        f"{count:,} x 10 x 512 float32; {platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}; index made in {built:.0f} s, {size / 2**20:.0f} MiB"
    )
    exact, near, recall, proven = [], [], [], 0
    for query in queries:
        began = time.perf_counter()
        expected = nearest(snapshot, query, 10)["source"].to_pylist()
        exact.append(time.perf_counter() - began)
        began = time.perf_counter()
        found = approximate_neighbours(snapshot, query, 10)
        near.append(time.perf_counter() - began)
        sources = set(found.neighbours.rows["source"].to_pylist())
        recall.append(len(sources & set(expected)) / 10)
        proven += found.is_proven
        print(
            f"exact {exact[-1]:6.2f} s, index {near[-1]:6.3f} s, recall@10 {recall[-1]:.2f}, "
            f"{found.compared} compared, {'proven' if found.is_proven else 'not proven'}",
            flush=True,
        )
    print(
        f"mean: exact {np.mean(exact):.2f} s, index {np.mean(near):.3f} s, "
        f"{np.mean(exact) / np.mean(near):.0f} times; recall@10 {np.mean(recall):.3f}, "
        f"{proven} of {len(queries)} proven"
    )


if __name__ == "__main__":
    main()
