"""The index against all distances at once in float64, and when it must not be used."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from restyle.core.errors import DamagedError, SpecError
from restyle.pipeline import read_latents
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.results.similar import nearest
from restyle.pipeline.results.snapshot import read_snapshot
from restyle.pipeline.similarity.approximate import approximate_neighbours
from restyle.pipeline.similarity.index import build_index
from restyle.pipeline.similarity.sketch import AXES, fit_basis, lower_bounds
from tests.command import restyle
from tests.pipeline import fabricated
from tests.pipeline.fabricated import Made, fabricate, redo
from tests.s3_server import faulty_s3

MADE = Made(faces=250, unit=128, shape=(4, 32), reconstructions="none", save_steps="none")


def manifold(count: int, kind: str) -> np.ndarray:
    """Latents of n faces: near a surface of few dimensions, of noise, far from zero, repeated."""
    generator = np.random.default_rng(count)
    few = np.tanh(generator.standard_normal((count, 12))) @ generator.standard_normal((12, 128))
    values = {
        "surface": few + 0.02 * generator.standard_normal((count, 128)),
        "noise": generator.standard_normal((count, 128)),
        "far": 1000 + few,
        "repeated": few[generator.integers(0, count // 9, count)],
        "equal": np.ones((count, 128)),
    }[kind]
    return values.astype(np.float32)


@pytest.fixture(params=["surface", "noise", "far", "repeated", "equal"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def indexed(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch, made: Made = MADE) -> Path:
    values = iter(manifold(400, kind))
    batch = fabricated._batch

    def filled(made: Made, crops: Sequence[object], generator: np.random.Generator) -> object:
        found = batch(made, crops, generator)
        for row in found.latents:
            row[-1] = next(values).reshape(made.shape)
        return found

    monkeypatch.setattr(fabricated, "_batch", filled)
    storage = fabricate(folder, made)
    redo(storage, made, 5, 2, rejected=False)
    redo(storage, made, 7, 2, rejected=True)
    assert build_index(read_snapshot(str(folder))) == 249
    return folder


def exact(w: np.ndarray, latent: np.ndarray) -> np.ndarray:
    off = (w.astype(np.float64) - latent).reshape(len(w), -1)
    return np.sqrt((off**2).sum(1) / w.shape[1])


def test_as_near_as_the_exhaustive_search(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = indexed(tmp_path / "out", kind, monkeypatch)
    snapshot = read_snapshot(str(out))
    rows, w = read_latents(out)
    generator = np.random.default_rng(5)
    for number in range(6):
        noise = generator.standard_normal((4, 32)) * (0, 0.01, 1)[number % 3]
        latent = (w[number * 40] + noise).astype(np.float32)
        distances = exact(w, latent)
        found = approximate_neighbours(snapshot, latent, 10, most_read=300)
        assert found.is_proven, "all latents may be read here"
        table = found.neighbours.rows
        np.testing.assert_allclose(table["distance"], np.sort(distances)[:10], rtol=2e-4, atol=1e-4)
        if kind in ("surface", "noise"):
            expected = nearest(snapshot, latent, 10)
            assert table["source"].to_pylist() == expected["source"].to_pylist()
            assert table.schema.names == expected.schema.names
        sources = rows.source.tolist()
        for source, distance in zip(table["source"].to_pylist(), table["distance"], strict=True):
            assert distances[sources.index(source)] == pytest.approx(distance.as_py(), abs=1e-3)


def test_what_is_called_proven_is_so(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few latents to read, an answer that is called proven has the smallest distances."""
    monkeypatch.setattr("restyle.pipeline.similarity.approximate._READ_AT_ONCE", 20)
    out = indexed(tmp_path / "out", kind, monkeypatch)
    snapshot, w = read_snapshot(str(out)), read_latents(out)[1]
    generator, proven = np.random.default_rng(6), 0
    for number in range(40):
        size = 10.0 ** generator.uniform(-4, 0.5)
        latent = (w[number * 6] + size * generator.standard_normal((4, 32))).astype(np.float32)
        found = approximate_neighbours(snapshot, latent, 3, most_read=40)
        assert found.compared <= 43
        if found.is_proven:
            proven += 1
            smallest = np.sort(exact(w, latent))[:3]
            np.testing.assert_allclose(
                found.neighbours.rows["distance"], smallest, rtol=1e-3, atol=2e-4
            )
    assert proven >= (30 if kind == "surface" else 0)
    if kind in ("noise", "equal"):
        assert proven < 40


def test_bounds_are_bounds(kind: str) -> None:
    values = manifold(500, kind)
    basis = fit_basis(values[::2])
    assert len(basis.axes) <= AXES
    np.testing.assert_allclose(basis.axes @ basis.axes.T, np.eye(len(basis.axes)), atol=1e-5)
    sketches = basis.sketch(values)
    assert sketches.shape == (500, len(basis.axes) + 1)
    for query in (values[3], values[4] + 0.01, np.zeros(128, np.float32)):
        squares = ((values.astype(np.float64) - query) ** 2).sum(1)
        bounds = lower_bounds(sketches, basis.sketch(query[None])[0])
        scale = float(np.linalg.norm(basis.sketch(query[None])))
        assert (np.sqrt(bounds) <= np.sqrt(squares) + 1e-5 * (np.sqrt(squares) + scale)).all()
        if kind == "surface":
            # They are tight: the axes hold nearly all of the distance.
            assert np.median(bounds[squares > 1] / squares[squares > 1]) > 0.9


@pytest.mark.parametrize("change", ["rows", "a reject", "packs"])
def test_an_index_of_other_rows_is_not_used(change: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    storage = fabricate(out, MADE)
    latent = read_latents(out)[1][3]
    with pytest.raises(SpecError, match="has no index of its latents; make it with `restyle index"):
        approximate_neighbours(read_snapshot(str(out)), latent, 3)
    build_index(read_snapshot(str(out)))
    approximate_neighbours(read_snapshot(str(out)), latent, 3)
    if change == "packs":
        compact(str(out))
    else:
        redo(storage, MADE, 5, 2, rejected=change == "a reject")
    with pytest.raises(SpecError, match="is one of other rows; make it with `restyle index"):
        approximate_neighbours(read_snapshot(str(out)), latent, 3)
    build_index(read_snapshot(str(out)))
    assert approximate_neighbours(read_snapshot(str(out)), latent, 3).is_proven
    assert not verify(str(out)).problems


@pytest.mark.parametrize("file", ["basis.npy", "sketches.npy", "rows.npy", "similar.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_a_damaged_index_is_named(file: str, damage: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fabricate(out, Made(faces=30, shape=(4, 8), reconstructions="none"))
    build_index(read_snapshot(str(out)))
    path = out / "_index" / file
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if damage == "cut" else data[:-9] + b"#" * 9)
    kind = SpecError if (file, damage) == ("similar.json", "gone") else DamagedError
    with pytest.raises(kind, match="restyle index"):
        approximate_neighbours(read_snapshot(str(out)), np.zeros((4, 8), np.float32), 3)


def test_on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_s3(monkeypatch):
        fabricate("s3://bucket/out", Made(faces=300, shape=(4, 8), reconstructions="none"))
        snapshot = read_snapshot("s3://bucket/out")
        build_index(snapshot)
        latent = read_latents("s3://bucket/out")[1][250]
        found = approximate_neighbours(snapshot, latent, 5).neighbours.rows
        assert found["source"].to_pylist() == nearest(snapshot, latent, 5)["source"].to_pylist()


def test_the_commands(tmp_path: Path) -> None:
    out = Path(shutil.copytree(fabricate(tmp_path / "made", MADE).address, tmp_path / "out"))
    missing = restyle("similar", out, "000003.jpg", "--approximate")
    assert missing.returncode == 2
    assert missing.stderr.endswith(f"make it with `restyle index {out}`\n")
    assert restyle("index", out).stdout == "250 faces indexed\n"
    arguments = ("similar", out, "000003.jpg", "--count", "4", "--format", "json")
    near = restyle(*arguments, "--approximate")
    assert near.returncode == 0, near.stderr
    assert "latents compared: no other face is nearer" in near.stderr
    assert near.stdout.splitlines()[1:] == restyle(*arguments).stdout.splitlines()[1:]
    layers = restyle(*arguments, "--approximate", "--layers", "0-1")
    assert layers.returncode == 2
    assert layers.stderr == (
        "error: --approximate compares all styles; leave out --layers or --approximate\n"
    )
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((3, 32), np.float32))
    assert "the latent is [3, 32]" in restyle("similar", out, other, "--approximate").stderr
    fabricate(tmp_path / "empty", Made(faces=0, rejects=2))
    assert "holds no faces to index yet" in restyle("index", tmp_path / "empty").stderr
