"""Nearest neighbours against all distances at once in float64, and what may be named as a query."""

from __future__ import annotations

import contextlib
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline import read_latents
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.latent_of import latent_of
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.results.similar import nearest
from restyle.pipeline.results.snapshot import read_snapshot
from tests.pipeline.fabricated import HOSTILE, Made, fabricate, image, redo
from tests.pipeline.in_process import run_units

MADE = Made(faces=70, unit=16, shape=(6, 16), names=HOSTILE, reconstructions="none")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("similar") / "out"
    fabricate(folder, MADE)
    return folder


def found(
    out: Path, latent: np.ndarray, count: int, layers: list[int] | None = None
) -> pd.DataFrame:
    return nearest(read_snapshot(str(out)), latent, count, layers).to_pandas()


@pytest.mark.parametrize("layers", [None, [0], [1, 4, 5]])
@pytest.mark.parametrize("compacted", [False, True])
def test_the_same_as_all_distances_at_once(
    out: Path, tmp_path: Path, layers: list[int] | None, compacted: bool
) -> None:
    if compacted:
        out = Path(shutil.copytree(out, tmp_path / "out"))
        compact(str(out))
    rows, w = read_latents(out)
    latent = np.random.default_rng(7).standard_normal((6, 16)).astype(np.float32)
    chosen = list(range(6)) if layers is None else layers
    off = (w.astype(np.float64) - latent)[:, chosen]
    distances = np.sqrt(np.square(off).sum(axis=2).mean(axis=1))
    order = np.argsort(distances)[:9]
    answer = found(out, latent, 9, layers)
    assert answer.source.tolist() == rows.source[order].tolist()
    np.testing.assert_allclose(answer.distance, distances[order], rtol=1e-5)
    np.testing.assert_array_equal(answer.l2, rows.l2[order])


def test_a_face_is_nearest_to_itself_and_more_than_all_are_all(out: Path) -> None:
    w = read_latents(out)[1]
    answer = found(out, w[33], 1000)
    assert answer.source[0] == "/photos/000033.jpg"
    assert answer.distance[0] == 0
    assert len(answer) == 70


def test_only_what_stands_now(tmp_path: Path) -> None:
    made = Made(faces=6, shape=(3, 4))
    storage = fabricate(tmp_path, made)
    w = read_latents(tmp_path)[1]
    redo(storage, made, 2, 2, rejected=False)
    answer = found(tmp_path, w[2], 99)
    assert answer.distance.min() > 0
    assert answer.image_id.tolist().count(image(made, 2).image_id) == 1


def test_a_row_group_at_a_time(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=2048, unit=256, shape=(18, 128), reconstructions="none"))
    snapshot = read_snapshot(str(tmp_path))
    latent = np.zeros((18, 128), np.float32)
    nearest(snapshot, latent, 5)
    tracemalloc.start()
    nearest(snapshot, latent, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The latents are 18 MiB in all, 2.3 in each of eight row groups.
    assert peak < 6 * 2**20


def test_no_faces(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=0))
    assert len(found(tmp_path, np.zeros((6, 16), np.float32), 3)) == 0


def test_what_a_query_may_be(out: Path, tmp_path: Path) -> None:
    snapshot = read_snapshot(str(out))
    rows, w = read_latents(out)
    for name in ("/photos/000020.jpg", "000020.jpg", rows.image_id[20]):
        np.testing.assert_array_equal(latent_of(snapshot, name), w[20])
    np.testing.assert_array_equal(latent_of(snapshot, HOSTILE[2]), w[2])
    np.save(tmp_path / "a.npy", w[3].astype(np.float64))
    np.save(tmp_path / "b.npy", w[3:4])
    for name in ("a.npy", "b.npy"):
        np.testing.assert_array_equal(latent_of(snapshot, str(tmp_path / name)), w[3])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nothing", "has no face"),
        ("text.npy", "cannot be read as .npy"),
        ("objects.npy", "cannot be read as .npy"),
        ("whole.npy", "no floating-point"),
        ("flat.npy", "one finite latent is needed"),
        ("nan.npy", "one finite latent is needed"),
        ("gone.npy", "cannot be read"),
        ("text.jpg", "is not the model"),
    ],
)
def test_what_it_may_not_be(out: Path, tmp_path: Path, what: str, words: str) -> None:
    for name in ("text.npy", "text.jpg"):
        (tmp_path / name).write_text("text")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "whole.npy", np.zeros((6, 16), np.int64))
    np.save(tmp_path / "flat.npy", np.zeros(96, np.float32))
    np.save(tmp_path / "nan.npy", np.full((6, 16), np.nan, np.float32))
    with pytest.raises(SpecError, match=words):
        latent_of(read_snapshot(str(out)), str(tmp_path / what))


def test_shapes_and_layers_that_do_not_fit(out: Path) -> None:
    with pytest.raises(SpecError, match=r"is \[5, 16\], those of this run are \[6, 16\]"):
        found(out, np.zeros((5, 16), np.float32), 1)
    with pytest.raises(SpecError, match="styles 0-5"):
        found(out, np.zeros((6, 16), np.float32), 1, [6])


def test_several_sources_of_one_name(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=3, names=["/a/x.jpg", "/b/x.jpg"]))
    with pytest.raises(SpecError, match=r"may be any of /a/x\.jpg, /b/x\.jpg"):
        latent_of(read_snapshot(str(tmp_path)), "x.jpg")


def test_an_image_is_inverted_as_the_run_did(
    tmp_path: Path, tiny_model: Path, photos: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("smile.jpg", "garden.jpg"):
        shutil.copy(photos / name, tmp_path / "in")
    out = tmp_path / "out"
    settings = InversionSettings(model=str(tiny_model), steps=2, metrics=(), dtype="fp32")
    invert_images(
        Request(str(tmp_path / "in"), str(out), settings, device="cpu"),
        engine=lambda: contextlib.nullcontext(run_units),
    )
    rows, w = read_latents(out)
    index = rows.source.str.endswith("smile.jpg").argmax()
    shutil.copy(photos / "smile.jpg", tmp_path / "copy.jpg")
    snapshot = read_snapshot(str(out))
    latent = latent_of(snapshot, str(tmp_path / "copy.jpg"))
    np.testing.assert_allclose(latent, w[index], atol=1e-4)
    (tmp_path / "none.jpg").write_bytes(b"")
    with pytest.raises(SpecError, match=r"none\.jpg gives no latent: the file is empty"):
        latent_of(snapshot, str(tmp_path / "none.jpg"))


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    fabricate(tmp_path, MADE)
    next((tmp_path / "latents").iterdir()).unlink()
    with pytest.raises(FatalError, match="restyle verify"):
        found(tmp_path, np.zeros((6, 16), np.float32), 1)
