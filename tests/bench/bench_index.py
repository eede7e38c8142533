"""What ``restyle similar --approximate`` finds and costs, beside the exhaustive search.

Run ``python -m tests.bench.bench_index``. The latents are made up as real ones are distributed, see
:class:`Faces`. Half of the queries are real inversions of faces that the output does not hold, half
are made up like its rows. Recall is the share of the ten nearest faces, by the distances to all of
them, that a search finds. Seconds are those of a search in a process that is running already, with
the ledger read.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

import restyle
from restyle.pipeline.results.forms.selected_rows import selected_rows
from restyle.pipeline.results.similar import nearest
from restyle.pipeline.results.snapshot import Snapshot, read_snapshot
from restyle.pipeline.similarity.approximate import approximate_neighbours, open_index
from restyle.pipeline.similarity.index import update_index
from tests.bench.bench_similar import make
from tests.pipeline import fabricated
from tests.pipeline.fabricated import Made

_REAL = 4096
_AXES = 512
_NEAREST = 10


class Faces:
    """Makes latents [n, 10, 512] like those that an encoder of faces64 finds.

    Samples of the generator are inverted. What of their latents depends on the sample's own w in a
    linear way is fitted by ridge regression, the remainder by its principal axes and the variance
    beside them. New latents get a w from the mapping network, whose distribution is not Gaussian,
    and a Gaussian remainder.

    Args:
        model: whose encoder inverts.
        queries: number of further inversions, as queries.
    """

    def __init__(self, model: str, queries: int) -> None:
        self._random = torch.Generator().manual_seed(0)
        self._model = restyle.load_model(model, device="cpu", dtype="fp32")
        w, latents = self._inverted(_REAL + queries)
        self.queries = latents[_REAL:].reshape(-1, self._model.n_styles, 512).numpy()
        w, latents = w[:_REAL], latents[:_REAL]
        self._mean_w, self._mean = w.mean(0), latents.mean(0)
        w, latents = w - self._mean_w, latents - self._mean
        ridge = w.T @ w + torch.eye(512)
        self._linear = torch.linalg.solve(ridge, w.T @ latents)
        rest = latents - w @ self._linear
        _, sizes, axes = torch.linalg.svd(rest, full_matrices=False)
        self._axes = axes[:_AXES] * sizes[:_AXES, None] / _REAL**0.5
        self._beside = (rest.var(0) - (self._axes**2).sum(0)).clamp(min=0).sqrt()

    def __call__(self, count: int) -> np.ndarray:
        w = self._w(count) - self._mean_w
        size = self._axes.shape
        latents = self._mean + w @ self._linear + self._noise(count, size[0]) @ self._axes
        latents += self._noise(count, size[1]) * self._beside
        return latents.reshape(count, -1, 512).numpy()

    def _inverted(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        w = self._w(count)
        parts = []
        for part in w.split(64):
            images = self._model.synthesize(part[:, None].repeat(1, self._model.n_styles, 1))
            parts.append(restyle.invert(self._model, images.clamp(-1, 1), steps=5).latents[:, -1])
        return w, torch.cat(parts).flatten(1)

    @torch.inference_mode()
    def _w(self, count: int) -> torch.Tensor:
        return self._model.generator.mapping(
            self._noise(count, self._model.generator.config.z_dim)
        ).float()

    def _noise(self, *size: int) -> torch.Tensor:
        return torch.randn(size, generator=self._random)


def fill(faces: Faces) -> None:
    """Have outputs made up of the latents of faces."""
    batch = fabricated._batch

    def filled(made: Made, crops: Sequence[object], generator: np.random.Generator) -> object:
        found = batch(made, crops, generator)
        found.latents[:, -1] = faces(len(crops))
        return found

    fabricated._batch = filled


def nearest_of_all(out: str, queries: np.ndarray) -> list[set[int]]:
    """Indices of the nearest rows of each query, by one pass over all of them."""
    flat = queries.reshape(len(queries), -1)
    best = [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(queries)
    with selected_rows(read_snapshot(out), []) as rows:
        start = 0
        for _, latents in rows.batches():
            latents = latents.reshape(len(latents), -1)
            squares = np.einsum("ij,ij->i", latents, latents) - 2 * flat @ latents.T
            for number, (values, at) in enumerate(best):
                values = np.concatenate([values, squares[number]])
                at = np.concatenate([at, np.arange(start, start + len(latents))])
                kept = np.argsort(values, kind="stable")[:_NEAREST]
                best[number] = values[kept], at[kept]
            start += len(latents)
    return [set(at.tolist()) for _, at in best]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of processor."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def show(out: str, queries: np.ndarray, exhaustive: int) -> None:
    snapshot = read_snapshot(out)
    seconds, used = timed(lambda: update_index(out))
    index = open_index(snapshot)
    size = sum(path.stat().st_size for path in (Path(out) / "_index").iterdir())
    print(
        f"{index.faces:,} x {index.record.shape} float32; {platform.machine()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; index made in {seconds:.0f} s "
        f"({used:.0f} of processor), {size / 2**20:.0f} MiB",
        flush=True,
    )
    print(f"again, with nothing new: {timed(lambda: update_index(out))[0]:.1f} s")
    show_times(snapshot, queries, exhaustive)
    expected = nearest_of_all(out, queries)
    recall = []
    numbers = {f"/photos/{number:06d}.jpg": number for number in range(index.faces)}
    for query, wanted in zip(queries, expected, strict=True):
        rows = approximate_neighbours(snapshot, query, _NEAREST, index).neighbours.rows
        found = {numbers[source] for source in rows["source"].to_pylist()}
        recall.append(len(found & wanted) / _NEAREST)
    half = len(queries) // 2
    print(
        f"recall@10 of {len(queries)} queries: real inversions {np.mean(recall[:half]):.4f}, made "
        f"up {np.mean(recall[half:]):.4f}, least {min(recall):.1f}"
    )


def show_times(snapshot: Snapshot, queries: np.ndarray, exhaustive: int) -> None:
    """Seconds of both searches, each query by both in turn."""
    index = open_index(snapshot)
    times: dict[str, list[tuple[float, float]]] = {"exhaustive": [], "opened": [], "open": []}
    for number in range(exhaustive):
        # Of both kinds of queries in turn.
        query = queries[(number % 2) * (len(queries) // 2) + number // 2]
        searches: dict[str, Callable[[], object]] = {
            "exhaustive": partial(nearest, snapshot, query, _NEAREST),
            "opened": partial(approximate_neighbours, snapshot, query, _NEAREST),
            "open": partial(approximate_neighbours, snapshot, query, _NEAREST, index),
        }
        for name, search in searches.items():
            times[name].append(timed(search))
            print(
                f"{name:10} {times[name][-1][0]:8.3f} s, {times[name][-1][1]:7.3f} of processor",
                flush=True,
            )
    means = {name: np.mean(each, 0) for name, each in times.items()}
    for name in ("opened", "open"):
        ratios = means["exhaustive"] / means[name]
        print(f"{name}: {ratios[0]:.0f} times as fast, {ratios[1]:.0f} times less of processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--model", default="faces64", help="whose encoder's latents to imitate")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--exhaustive", type=int, default=4, help="queries that are timed")
    parser.add_argument("--folder", type=Path, help="where to put the output; a temporary one")
    given = parser.parse_args()
    faces = Faces(given.model, given.queries // 2)
    queries = np.concatenate([faces.queries, faces(given.queries - given.queries // 2)])
    fill(faces)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        made = Made(faces=given.faces, shape=(10, 512), reconstructions="none", save_steps="none")
        make(Path(folder) / "out", made)
        show(str(Path(folder) / "out"), queries, given.exhaustive)


if __name__ == "__main__":
    main()
