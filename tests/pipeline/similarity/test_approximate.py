"""The index against all distances at once in float64, and when it must not be used."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import DamagedError, FatalError, SpecError
from restyle.pipeline import read_latents
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.listener import Listener
from restyle.pipeline.results.forms import extras
from restyle.pipeline.results.similar import nearest
from restyle.pipeline.results.snapshot import Snapshot, read_snapshot
from restyle.pipeline.similarity import approximate, index, quantizer
from restyle.pipeline.similarity.approximate import approximate_neighbours, open_index
from restyle.pipeline.similarity.index import Indexed, update_index
from restyle.pipeline.similarity.record import segment_file, sha256
from restyle.pipeline.similarity.segment import encoded
from restyle.pipeline.storage.filesystem import open_storage
from restyle.pipeline.storage.lock import driver_lock
from tests.pipeline import fabricated
from tests.pipeline.fabricated import Made, fabricate, image, redo, write
from tests.s3_server import faulty_s3
from tests.warm_command import restyle

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
    assert update_index(str(folder)) == Indexed(249, 249)
    return folder


def exact(w: np.ndarray, latent: np.ndarray) -> np.ndarray:
    off = (w.astype(np.float64) - latent).reshape(len(w), -1)
    return np.sqrt((off**2).sum(1) / w.shape[1])


def check(snapshot: Snapshot, w: np.ndarray, sources: list[str], latent: np.ndarray) -> None:
    """All latents are compared here, so the answer is that of the exhaustive search."""
    distances = exact(w, latent)
    found = approximate_neighbours(snapshot, latent, 10)
    assert found.compared == found.faces == len(w)
    table = found.neighbours.rows
    np.testing.assert_allclose(table["distance"], np.sort(distances)[:10], rtol=1e-5, atol=1e-5)
    expected = nearest(snapshot, latent, 10)
    assert table["source"].to_pylist() == expected["source"].to_pylist()
    assert table.schema.names == expected.schema.names
    for source, distance in zip(table["source"].to_pylist(), table["distance"], strict=True):
        assert distances[sources.index(source)] == pytest.approx(distance.as_py(), abs=1e-4)


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
        check(snapshot, w, rows.source.tolist(), latent)


def test_few_of_many_latents_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With lists that are left out, and fewer candidates than rows, nearly all are found."""
    monkeypatch.setattr(quantizer, "_IN_LIST", 8)
    monkeypatch.setattr(approximate, "_LEAST", 8)
    monkeypatch.setattr(approximate, "COMPARED", 30)
    out = indexed(tmp_path / "out", "surface", monkeypatch)
    rows, w = read_latents(out)
    opened = open_index(read_snapshot(str(out)))
    assert len(opened.quantizer.centroids) == 31
    recall = []
    for number in range(20):
        latent = (w[number * 12] + 0.05).astype(np.float32)
        found = approximate_neighbours(opened.snapshot, latent, 5, opened)
        assert found.compared == 35
        assert len(opened.present) <= 31
        expected = set(rows.source[np.argsort(exact(w, latent))[:5]])
        names = found.neighbours.rows["source"].to_pylist()
        recall.append(len(expected & set(names)) / 5)
        assert names[0] == rows.source[np.argmin(exact(w, latent))]
    assert np.mean(recall) > 0.9


@pytest.mark.parametrize("kind", ["surface", "far"], indirect=True)
def test_codes_are_near_their_latents(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codes, decoded by the formula of their levels, are the latents but for the rest."""
    out = indexed(tmp_path / "out", kind, monkeypatch)
    w = read_latents(out)[1].reshape(249, -1).astype(np.float64)
    trained = open_index(read_snapshot(str(out))).quantizer
    axes = trained.axes[1:].astype(np.float64)
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-4)
    lists, codes = trained.encode(w.astype(np.float32))
    low, spread = trained.levels.astype(np.float64)
    points = trained.centroids[lists] + low + (codes + 0.5) / 255 * spread
    error = np.linalg.norm(points @ axes + trained.axes[0] - w, axis=1)
    assert np.median(error / np.linalg.norm(w - w.mean(0), axis=1)) < 0.02


def test_an_index_takes_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SEGMENT_ROWS", 60)
    out = tmp_path / "out"
    storage = fabricate(out, dataclasses.replace(MADE, unit=50))
    assert update_index(str(out)) == Indexed(250, 250)
    before = {path.name for path in (out / "_index").iterdir()}
    assert len(before) == 1 + 3 + 1
    assert update_index(str(out)) == Indexed(250, 0)
    assert {path.name for path in (out / "_index").iterdir()} == before
    redo(storage, MADE, 5, 2, rejected=False)
    redo(storage, MADE, 7, 2, rejected=True)
    read: list[str] = []
    opened = index.open_latents
    monkeypatch.setattr(
        index, "open_latents", lambda out, name: read.append(name) or opened(out, name)
    )
    assert update_index(str(out)) == Indexed(249, 1)
    assert len(read) == 1
    assert len({path.name for path in (out / "_index").iterdir()} & before) >= 1 + 1
    snapshot, (rows, w) = read_snapshot(str(out)), read_latents(out)
    for number in (5, 6, 7, 248):
        check(snapshot, w, rows.source.tolist(), w[number] + 0.1)
    compact(str(out))
    assert update_index(str(out)).faces == 249
    check(read_snapshot(str(out)), w, rows.source.tolist(), w[6])


def test_many_more_faces_are_trained_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    storage = fabricate(out, dataclasses.replace(MADE, faces=40))
    update_index(str(out))
    trained = (out / "_index" / "similar.json").read_text()
    write(storage, MADE, [image(MADE, number) for number in range(40, 250)])
    assert update_index(str(out)) == Indexed(250, 250)
    record, earlier = (
        json.loads(each) for each in ((out / "_index" / "similar.json").read_text(), trained)
    )
    assert (earlier["trained"], record["trained"]) == (40, 250)
    assert record["quantizer"] != earlier["quantizer"]


class Killed(BaseException):
    """Ends a build at a write."""


def test_a_build_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SEGMENT_ROWS", 60)
    made = fabricate(tmp_path / "made", dataclasses.replace(MADE, unit=50))
    rows, w = read_latents(made.address)
    done = []
    for number in range(40):
        out = str(shutil.copytree(made.address, tmp_path / f"out{number}"))
        with monkeypatch.context() as patch:
            killed_at(number, patch)
            try:
                update_index(out)
                break
            except Killed:
                pass
        snapshot = read_snapshot(out)
        with pytest.raises(SpecError, match="make it with `restyle index"):
            open_index(snapshot)
        done.append(250 - update_index(out).added)
        check(snapshot, w, rows.source.tolist(), w[77] + 0.1)
        assert verify(out).problems == []
        named = json.loads((Path(out) / "_index" / "similar.json").read_text())
        assert len(list((Path(out) / "_index").iterdir())) == 1 + len(named["segments"]) + 1
    assert number == 1 + 2 * 3, "a kill at every file"
    assert set(done) == {0, 100, 200}, "what was written is kept"


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill at the so manieth write to the index, before it or before its file has its name."""
    count = 0
    replace = Path.replace

    def patched(self: Path, target: Path) -> Path:
        nonlocal count
        if target.parent.name == "_index":
            count += 1
            if count == number + 1:
                raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", patched)


@pytest.mark.parametrize("change", ["rows", "a reject", "packs"])
def test_an_index_of_other_rows_is_not_used(change: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    storage = fabricate(out, MADE)
    latent = read_latents(out)[1][3]
    with pytest.raises(SpecError, match="has no index of its latents; make it with `restyle index"):
        approximate_neighbours(read_snapshot(str(out)), latent, 3)
    update_index(str(out))
    approximate_neighbours(read_snapshot(str(out)), latent, 3)
    if change == "packs":
        compact(str(out))
    else:
        redo(storage, MADE, 5, 2, rejected=change == "a reject")
    with pytest.raises(SpecError, match="is one of other rows; make it with `restyle index"):
        approximate_neighbours(read_snapshot(str(out)), latent, 3)
    update_index(str(out))
    faces = 249 if change == "a reject" else 250
    assert approximate_neighbours(read_snapshot(str(out)), latent, 3).faces == faces
    assert not verify(str(out)).problems


@pytest.mark.parametrize("file", ["quantizer", "codes", "similar.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_a_damaged_index_is_named(file: str, damage: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fabricate(out, Made(faces=30, shape=(4, 8), reconstructions="none"))
    update_index(str(out))
    (path,) = (out / "_index").glob(f"{file}*")
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if damage == "cut" else data[:-9] + b"#" * 9)
    kind = SpecError if (file, damage) == ("similar.json", "gone") else DamagedError
    snapshot, latent = read_snapshot(str(out)), np.zeros((4, 8), np.float32)
    with pytest.raises(kind, match="restyle index"):
        approximate_neighbours(snapshot, latent, 3)
    assert update_index(str(out)).faces == 30
    approximate_neighbours(snapshot, latent, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"file": 9}, {"file": 2**32 - 1}, {"row": 30}, {"row": 2**32 - 1},
        {"offset": 2**63}, {"offset": 10**9}, {"row": 2**31, "offset": 0},
    ],
)  # fmt: skip
def test_an_index_that_lies_is_named(change: dict[str, int], tmp_path: Path) -> None:
    """With checksums that hold, as somebody makes it who wants harm."""
    out = tmp_path / "out"
    fabricate(out, Made(faces=30, shape=(4, 8), reconstructions="none"))
    update_index(str(out))
    path = out / "_index" / "similar.json"
    record = json.loads(path.read_text())
    (about,) = record["segments"]
    opened = open_index(read_snapshot(str(out)))
    (part,) = opened.segments[0].parts([0]).values()
    data = (out / part.name).read_bytes()
    rows = opened.segments[0].rows(0, data[part.start :]).copy()
    for name, value in change.items():
        rows[name] = value
    data = encoded(np.zeros(30, np.int64), rows, 1)
    about["file"], about["header"] = sha256(data), sha256(data[: part.start])
    (out / segment_file(about["file"])).write_bytes(data)
    path.write_text(json.dumps(record))
    with pytest.raises(FatalError, match="damaged"):
        approximate_neighbours(read_snapshot(str(out)), np.zeros((4, 8), np.float32), 3)


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_latents_as_other_versions_wrote_them(
    compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compressed ones are decoded; of pages of a thousand bytes each is read where it lies."""
    out = indexed(tmp_path / "out", "surface", monkeypatch)
    for path in (out / "latents").iterdir():
        options = {"compression": compression, "data_page_size": 1000, "use_dictionary": False}
        pq.write_table(pq.read_table(path), path, **options)
    shutil.rmtree(out / "_index")
    update_index(str(out))
    rows, w = read_latents(out)
    snapshot = read_snapshot(str(out))
    opened = open_index(snapshot)
    found = opened.candidates(np.zeros((4, 32), np.float32), 1000)
    assert len(found) == 249
    assert (found["offset"] == 0).all() == (compression == "zstd")
    for number in (3, 100):
        check(snapshot, w, rows.source.tolist(), w[number] + 0.1)


def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    fabricate(out, Made(faces=30, shape=(4, 8), reconstructions="none"))
    update_index(out)
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda _name: None)
    needs = r"needs faiss: pip install 'restyle-pipeline\[faiss\]'"
    with pytest.raises(SpecError, match=needs):
        update_index(out)
    with pytest.raises(SpecError, match=needs):
        open_index(read_snapshot(out))


def test_another_run_is_not_disturbed(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    storage = fabricate(out, Made(faces=30, shape=(4, 8), reconstructions="none"))
    with (
        driver_lock(storage, Listener()),
        pytest.raises(SpecError, match="is in use by another run"),
    ):
        update_index(out)


def test_on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_s3(monkeypatch):
        fabricate("s3://bucket/out", Made(faces=300, shape=(4, 8), reconstructions="none"))
        snapshot = read_snapshot("s3://bucket/out")
        assert update_index("s3://bucket/out").faces == 300
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
    assert near.stderr.endswith("250 of 250 latents compared\n")
    assert near.stdout.splitlines()[1:] == restyle(*arguments).stdout.splitlines()[1:]
    redo(open_storage(str(out)), MADE, 9, 2, rejected=False)
    assert restyle("index", out).stdout == "250 faces indexed, 1 of them new\n"
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
