"""Forgetting, judged by an own search of every byte and every decoded value."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import html
import json
import re
import shutil
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import markupsafe
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline import read_latents
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.status import read_status
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.evaluation.run import PAGE_FILE as EVALUATION_PAGE
from restyle.pipeline.exporting.export import export
from restyle.pipeline.forgetting.forget import forget, verify_forgotten
from restyle.pipeline.forgetting.search import Needles
from restyle.pipeline.forgetting.tombstone import JOURNAL, TOMBSTONE
from restyle.pipeline.listener import Listener
from restyle.pipeline.similarity.index import update_index
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.local_files import LocalStorage
from tests.pipeline import fabricated
from tests.pipeline.fabricated import Made, fabricate, image, redo
from tests.s3_server import faulty_s3
from tests.warm_command import restyle

NAMES = [f"/photos/{name}.jpg" for name in ("alice", "bob & 'co\"", "Zoë", "dan", "eve", "fay")]
MADE = Made(
    faces=20, rejects=4, unit=8, shape=(4, 16), steps=2, names=NAMES, save_steps="latents",
)  # fmt: skip
GONE = (0, 1, 2, 22)
"""Three with faces, of which one was done again, and a reject."""


class Kept(Listener):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def _pictures_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every face pictures that no other has."""
    batch = fabricated._batch

    def filled(made: Made, crops: Sequence[object], generator: np.random.Generator) -> object:
        found = batch(made, crops, generator)
        for images in found.images:
            images[:] = [(step, data + generator.bytes(200)) for step, data in images]
        return found

    monkeypatch.setattr(fabricated, "_batch", filled)


def source(number: int) -> str:
    return fabricated.source(MADE, number)


def make(out: str, kind: str = "units") -> None:
    storage = fabricate(out, MADE)
    redo(storage, MADE, 0, 2, rejected=False)
    redo(storage, MADE, 3, 2, rejected=True)
    redo(storage, dataclasses.replace(MADE, seed=1), 23, 2, rejected=False)
    if kind == "packs":
        compact(out)
    run = json.loads(storage.read("run.json"))
    run["error"] = f"cannot read {source(2)}: gone"
    run["asked"]["source"] = source(0)
    storage.write("run.json", json.dumps(run).encode())
    storage.write(
        "_ledger/ray.log", f"fine\nworker died at {source(1)}\n{image(MADE, 0).image_id}\n".encode()
    )
    storage.write("_ledger/failures.txt", f"Traceback: {source(22)}\n".encode())
    storage.write("_set-aside/2026/latents/part-x.parquet", source(0).encode())
    storage.write("report.html", f"<p>{source(2)}</p>".encode())


def needles(out: str) -> set[bytes]:
    """Names, ids, latents and pictures of the inputs, read before they are forgotten."""
    ids = {image(MADE, number).image_id for number in GONE}
    found = {each.encode() for each in ids} | {source(number).encode() for number in GONE}
    found |= {json.dumps(source(number))[1:-1].encode() for number in GONE}
    for table in tables(out):
        rows = table.filter(pa.array([each in ids for each in table["image_id"].to_pylist()]))
        if "latent" in rows.column_names and rows.num_rows:
            flat = rows["latent"].combine_chunks().flatten().to_numpy()
            found |= {each.tobytes() for each in flat.reshape(rows.num_rows, -1)}
        if "image" in rows.column_names:
            found |= set(rows["image"].to_pylist())
    assert len(found) > 12
    return found


def files(place: str) -> Iterator[tuple[str, bytes]]:
    filesystem, path = fsspec.core.url_to_fs(place)
    filesystem.invalidate_cache()
    for name in filesystem.find(path):
        yield name, filesystem.cat_file(name)


def tables(place: str) -> Iterator[pa.Table]:
    for name, data in files(place):
        if name.endswith(".parquet"):
            with contextlib.suppress(pa.ArrowInvalid):
                table = pq.read_table(pa.BufferReader(data))
                if "image_id" in table.column_names:
                    yield table


def left(place: str, wanted: set[bytes]) -> list[str]:
    """Files that hold any of them, as bytes, in their names, or as decoded values."""
    found = []
    for name, data in files(place):
        decoded = b""
        if name.endswith(".parquet") and data[:4] == b"PAR1":
            table = pq.read_table(pa.BufferReader(data))
            for column in table.columns:
                if pa.types.is_fixed_size_list(column.type):
                    decoded += column.combine_chunks().flatten().to_numpy().tobytes()
                else:
                    decoded += b"\0".join(
                        each if isinstance(each, bytes) else str(each).encode()
                        for each in column.to_pylist()
                    )
        if any(each in data or each in decoded or each in name.encode() for each in wanted):
            found.append(name)
    return found


def rows_of(out: str) -> tuple[pd.DataFrame, np.ndarray]:
    rows, w = read_latents(out)
    kept = ~rows.source.isin([source(number) for number in GONE]).to_numpy()
    return rows[kept].reset_index(drop=True), w[kept]


def check_gone(out: str, wanted: set[bytes], before: tuple[pd.DataFrame, np.ndarray]) -> None:
    assert left(out, wanted) == []
    assert not any("/_index/" in name for name, _ in files(out)), "made of the forgotten as well"
    assert verify(out).problems == []
    assert verify_forgotten(out, [source(number) for number in GONE]).found == []
    rows, w = read_latents(out)
    pd.testing.assert_frame_equal(rows, before[0])
    assert w.tobytes() == before[1].tobytes()


ASKED = ["alice.jpg", source(1), "*/Zo*", source(22)]


def test_the_figures_of_edits_are_those_of_the_remaining_faces(
    tmp_path: Path, photos: Path
) -> None:
    from restyle.pipeline.editing.edit import edit
    from restyle.pipeline.editing.request import EditRequest, Move
    from restyle.pipeline.editing.summary import summarise
    from restyle.pipeline.execution.request import Request
    from restyle.pipeline.inversion.run import invert_images
    from restyle.pipeline.ledger.output import Output
    from restyle.pipeline.ledger.settings import InversionSettings
    from tests.pipeline.in_process import run_units

    (tmp_path / "photos").mkdir()
    for name in ("smile.jpg", "terrace.jpg", "garden.jpg", "evening.jpg"):
        shutil.copy(photos / name, tmp_path / "photos")
    out, edits = str(tmp_path / "out"), str(tmp_path / "edits")
    settings = InversionSettings(model="faces64", steps=1, metrics=(), dtype="fp32")
    request = Request(str(tmp_path / "photos"), out, settings, device="cpu")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(run_units))
    # A photograph that was changed since is not pasted into.
    with (tmp_path / "photos" / "terrace.jpg").open("ab") as photo:
        photo.write(b"more")
    move = Move("smile", (2.0, -2.0, 0.0))
    before = edit(EditRequest(out, edits, [move], paste_back="face", device="cpu"))
    assert (before.summary.faces, before.summary.without_photo) == (4, 1)

    forget(out, ["smile.jpg"], apply=True)
    summary = summarise(Output.at(edits).records(), before.settings)
    rows = pq.ParquetDataset(str(tmp_path / "edits" / "edits")).read().to_pandas()
    assert (summary.faces, summary.without_photo) == (rows.face.count() / 3, 1) == (3, 1)
    by_edit = rows.groupby("edit")
    np.testing.assert_allclose(summary.identity, by_edit["id_similarity"].mean(), rtol=1e-6)
    for name, change in summary.changes.items():
        np.testing.assert_allclose(change, by_edit[f"{name}_change"].mean(), atol=1e-6)
    faces = rows.pivot(index="image_id", columns="strength_smile", values="smile").dropna()
    rising = (faces[2] > faces[0]) & (faces[0] > faces[-2])
    steady = summary.steadiness
    assert steady is not None
    assert (steady.attribute, steady.faces, steady.rising) == ("smile", len(faces), rising.mean())


@pytest.mark.parametrize("kind", ["units", "packs"])
def test_nothing_is_left(kind: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    make(out, kind)
    update_index(out)
    wanted, before = needles(out), rows_of(out)
    assert len(left(out, wanted)) > 10
    done = forget(out, ASKED, apply=False)
    assert (done.inputs, done.sources) == (4, sorted(source(number) for number in GONE))
    assert len(left(out, wanted)) > 10, "without apply nothing changes"

    done = forget(out, ASKED, apply=True)
    assert done.inputs == 4
    assert done.searched.found == []
    # All but the tombstone, and the lock's claim, which is gone by now.
    assert done.searched.files == len(list(files(out))) - 1 + 1
    check_gone(out, wanted, before)
    summary = read_status(out).summary
    assert (summary.images, summary.faces, summary.rejected) == (21, 18, 3)
    tombstone = json.loads((tmp_path / "out" / TOMBSTONE).read_text())
    assert len(tombstone["inputs"]) == 4
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["error"] == "cannot read (forgotten): gone"
    assert (tmp_path / "out" / "_ledger" / "ray.log").read_text() == "fine\n"
    assert "18" in (tmp_path / "out" / "report.html").read_text()


def test_the_means_are_those_of_the_remaining_faces(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    make(out)
    forget(out, ASKED, apply=True)
    steps = pq.ParquetDataset(str(tmp_path / "out" / "steps")).read().to_pandas()
    means = read_status(out).summary.metrics
    for name in fabricated.METRICS:
        expected = steps.groupby("step")[name].mean()
        np.testing.assert_allclose(means[name], expected, rtol=1e-6)


def test_the_faces_that_got_worse_are_remaining_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = fabricated._batch

    def any_way(made: Made, crops: Sequence[object], generator: np.random.Generator) -> object:
        found = batch(made, crops, generator)
        for values in found.metrics.values():
            values[:] = generator.random(values.shape)
        return found

    monkeypatch.setattr(fabricated, "_batch", any_way)
    out = str(tmp_path / "out")
    make(out)
    before = read_status(out).summary.worsened
    forget(out, ASKED, apply=True)
    steps = pq.ParquetDataset(str(tmp_path / "out" / "steps")).read().to_pandas()
    by_step = steps.pivot(index=["image_id", "revision", "face"], columns="step")
    worsened = read_status(out).summary.worsened
    for name in fabricated.METRICS:
        change = by_step[name][2] - by_step[name][1]
        better = {"lpips": "lower", "l2": "lower"}.get(name, "higher")
        assert worsened[name] == [int((change > 0 if better == "lower" else change < 0).sum())]
    assert worsened != before


def test_edits_and_exports_follow(
    tmp_path: Path, inverted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real photographs, inverted, compacted, edited, exported, indexed; killed again and again."""
    from restyle.pipeline.editing.edit import edit
    from restyle.pipeline.editing.request import EditRequest, Move
    from restyle.pipeline.execution.request import Request
    from restyle.pipeline.inversion.run import invert_images
    from restyle.pipeline.ledger.settings import InversionSettings
    from tests.pipeline.in_process import run_units

    def engine() -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext(run_units)

    # Other tests edit what they share, which notes that.
    others = shutil.ignore_patterns("derived-*.json")
    folder = Path(shutil.copytree(inverted, tmp_path / "copy", ignore=others))
    out, photos = str(folder / "out"), inverted / "photos"
    edits = str(folder / "edits")
    edit(EditRequest(out, edits, [Move("smile", (-1.0, 1.0))], score=False))
    compact(out)
    for to in ("hf", "npy", "webdataset", "delta"):
        export(out, to, str(folder / to))
    moved = str(shutil.move(folder / "npy", folder / "moved"))
    rows, _ = read_latents(out)
    gone = rows[rows.source.str.endswith("smile.jpg")].iloc[0]
    wanted = {gone.source.encode(), gone.image_id.encode()}
    for place in (out, edits):
        for table in tables(place):
            mine = table.filter(
                pa.array([each == gone.image_id for each in table["image_id"].to_pylist()])
            )
            for name in {"image", "photo"} & set(mine.column_names):
                wanted |= set(mine[name].to_pylist()) - {None}
            if "latent" in mine.column_names and mine.num_rows:
                flat = mine["latent"].combine_chunks().flatten().to_numpy()
                wanted |= {each.tobytes() for each in flat.reshape(mine.num_rows, -1)}
    places = [out, edits, *(str(folder / to) for to in ("hf", "webdataset", "delta")), moved]
    assert all(left(place, wanted) for place in places)
    update_index(out)
    listener, asked = Kept(), ["smile.jpg"]
    kills = 0
    for number in range(3, 100, 3):
        with monkeypatch.context() as patch:
            killed_at(number, patch)
            try:
                done = forget(out, asked, [moved], apply=True, listener=listener)
                break
            except Killed:
                kills, asked = kills + 1, []
    assert kills >= 3
    assert done.searched.found == []
    assert not (folder / "out" / "_index").exists() or not list((folder / "out/_index").iterdir())
    assert [left(place, wanted) for place in places] == [[]] * 6
    assert any("npy is not there" in line for line in listener.lines)
    assert sum("is exported again" in line for line in listener.lines) == 4
    assert verify(out).problems == verify(edits).problems == []
    assert len(read_latents(out)[0]) == 2
    assert len(pq.read_table(folder / "hf" / "data")) == 2
    assert len(np.load(Path(moved) / "latents.npy")) == 2

    settings = InversionSettings(model="faces64", steps=3, metrics=("l2",), dtype="fp32")
    request = Request(str(photos), out, settings, device="cpu")
    listener = Kept()
    outcome = invert_images(request, listener, engine)
    assert "1 input passed over, because forgotten" in listener.lines
    assert outcome.images == 0
    assert left(out, wanted) == []
    again = EditRequest(out, edits, [Move("smile", (-1.0, 1.0))], score=False)
    assert edit(again).photographs == 0
    assert left(edits, wanted) == []


class Killed(BaseException):
    """Ends the process of a test, at a write or removal."""


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill before the so manieth file is written or removed."""
    count = 0

    def patched(name: str) -> None:
        original = getattr(LocalStorage, name)

        def change(self: object, *arguments: object) -> None:
            nonlocal count
            if str(arguments[0]).startswith("_ledger/driver-"):
                return original(self, *arguments)
            count += 1
            if count == number:
                raise Killed
            original(self, *arguments)
            return None

        monkeypatch.setattr(LocalStorage, name, change)

    patched("write")
    patched("delete")


def test_killed_anywhere_it_can_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(str(tmp_path / "made"), "packs")
    update_index(str(tmp_path / "made"))
    wanted, before = needles(str(tmp_path / "made")), rows_of(str(tmp_path / "made"))
    kills = 0
    for number in range(1, 100):
        out = str(shutil.copytree(tmp_path / "made", tmp_path / f"out{number}"))
        export(out, "npy", f"{out}-npy")
        with monkeypatch.context() as patch:
            killed_at(number, patch)
            try:
                forget(out, ASKED, apply=True)
                break
            except Killed:
                kills += 1
        journal = Path(out) / JOURNAL
        if not journal.exists() and kills == 1:
            # Nothing has changed, and nothing is to be continued.
            assert verify(out).problems == []
            with pytest.raises(SpecError, match="nothing is to be continued"):
                forget(out, [], apply=True)
            forget(out, ASKED, apply=True)
        elif journal.exists():
            assert any("restyle forget" in problem for problem in verify(out).problems)
            for change in (lambda out: compact(out), lambda out: export(out, "hf", f"{out}-hf")):
                with pytest.raises(FatalError, match="finish it with `restyle forget"):
                    change(out)
            assert forget(out, [], apply=True).searched.found == []
        check_gone(out, wanted, before)
        assert left(f"{out}-npy", wanted) == []
        shutil.rmtree(out)
    assert kills > 15


def test_on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_s3(monkeypatch):
        out = "s3://bucket/out"
        make(out, "packs")
        wanted, before = needles(out), rows_of(out)
        assert len(left(out, wanted)) > 5
        assert forget(out, ASKED, apply=True).searched.found == []
        check_gone(out, wanted, before)


def test_all_inputs(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    make(out)
    export(out, "npy", str(tmp_path / "npy"))
    listener = Kept()
    done = forget(out, ["*"], apply=True, listener=listener)
    assert done.inputs == 24
    assert verify(out).problems == []
    assert not (tmp_path / "npy").exists()
    assert any("is removed, and was not exported again" in line for line in listener.lines)
    assert list(tables(out)) == []


def test_an_evaluation_is_forgotten_by_the_commands_that_it_names(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    wanted = set()
    for number, method in enumerate(("restyle-5", "optimize-350")):
        fabricate(folder / "methods" / method, dataclasses.replace(MADE, seed=number))
        wanted |= needles(str(folder / "methods" / method))
    page = folder / EVALUATION_PAGE
    page.write_text(f"<img alt='{source(0)}'>")
    with pytest.raises(SpecError, match="holds an evaluation") as caught:
        forget(str(folder), ["alice.jpg"], apply=True)
    commands = re.findall(r"`restyle (.+?)`", str(caught.value))
    assert len(commands) == 2
    for command in commands:
        words = command.replace("NAME", "alice.jpg").split()
        for other in ASKED[1:]:
            words += ["--source", other]
        assert restyle(*words).returncode == 0
    assert f"remove {page}," in str(caught.value)
    page.unlink()
    assert left(str(folder), wanted) == []


def test_the_search_finds_what_was_put_back(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    make(out)
    kept = {place: (tmp_path / "out" / place) for place in ("latents", "rejects", "_ledger")}
    copies = {name: shutil.copytree(path, tmp_path / "kept" / name) for name, path in kept.items()}
    forget(out, ASKED, apply=True)
    assert verify_forgotten(out).found == []
    unit = next(path for path in copies["latents"].iterdir() if "000000" in path.name)
    shutil.copy(unit, tmp_path / "out" / "latents" / "copy.parquet")
    shutil.copy(min(copies["_ledger"].glob("plan-*")), tmp_path / "out" / "plan.parquet")
    (tmp_path / "out" / "note.txt").write_text(f"id {image(MADE, 0).image_id}.")
    (tmp_path / "out" / "name.txt").write_text("see /photos/Zo%C3%AB.jpg")
    assert [line.split(" holds")[0] for line in verify_forgotten(out).found] == [
        f"{out}/{name}" for name in ("latents/copy.parquet", "note.txt", "plan.parquet")
    ]
    named = verify_forgotten(out, [source(2)]).found
    assert [line.split(" holds")[0] for line in named][1] == f"{out}/name.txt"


def test_no_name_can_be_read_from_a_tombstone(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        out = str(tmp_path / name)
        make(out)
        forget(out, ["alice.jpg"], apply=True)
        texts.append((tmp_path / name / TOMBSTONE).read_text())
    one, two = map(json.loads, texts)
    assert one["salt"] != two["salt"]
    assert not set(one["inputs"]) & set(two["inputs"]), "the same input, another digest"
    for text in texts:
        assert "alice" not in text
        assert image(MADE, 0).image_id not in text


@pytest.mark.parametrize("name", ["nobody.jpg", "*.tiff", "/photos/alice"])
def test_a_name_that_there_is_none_of(name: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    make(out)
    for apply in (False, True):
        with pytest.raises(SpecError, match=r"no input of .* is called"):
            forget(out, ["alice.jpg", name], apply=apply)
    assert not (tmp_path / "out" / TOMBSTONE).exists()
    with pytest.raises(SpecError, match="nothing was forgotten"):
        verify_forgotten(out)


def test_each_input_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fabricated.image

    def on_a_disk(*which: Any) -> SourceImage:
        found = made(*which)
        return dataclasses.replace(found, uri=b"file://" + found.uri)

    monkeypatch.setattr(fabricated, "image", on_a_disk)
    out = str(tmp_path / "out")
    make(out)
    assert forget(out, ["alice.jpg"], apply=False).sources == [source(0)]


def test_the_commands(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(str(out))
    names = tmp_path / "names.txt"
    names.write_text(f"alice.jpg\n{source(22)}\n")
    planned = restyle("forget", out, "--list", names)
    assert planned.returncode == 1
    assert planned.stdout == (
        f"{source(22)}\n{source(0)}\n"
        "2 inputs would be forgotten; the same command with --yes does so\n"
    )
    done = restyle("forget", out, "--list", names, "--source", "dan.jpg", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 inputs forgotten; ")
    assert done.stdout.endswith(": clean\n")
    assert restyle("verify", out, "--forgotten").stdout.endswith("clean\n")
    answer = restyle("verify", out, "--forgotten", "--source", source(5), "--json")
    assert answer.returncode == 1
    assert not json.loads(answer.stdout)["clean"]
    empty = tmp_path / "empty.txt"
    empty.touch()
    for arguments, message in {
        ("--yes",): "nothing is to be continued",
        ("--list", empty): "names nothing",
        ("--list", tmp_path / "missing"): "missing cannot be read: No such file",
        ("--source", "dan.jpg"): "is called 'dan.jpg'",
    }.items():
        failed = restyle("forget", out, *arguments)
        assert failed.returncode == 2
        assert message in failed.stderr
        assert len(failed.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["/p/a&b<c>\"d'e é.jpg", "tar::Zoë/1.jpg", "a.jpg"])
def test_names_are_found_in_every_spelling(name: str) -> None:
    searched = Needles([name, "another name"])
    encodings = [str, json.dumps, html.escape, markupsafe.escape, urllib.parse.quote]
    for encode in encodings:
        for before in range(9):
            text = "x" * before + str(encode(name)) + "y"
            assert searched.within(text.encode())
            assert not searched.within(text.replace("a", "_").replace("1", "_").encode())


@pytest.mark.parametrize("skip", range(3))
def test_samples_are_found_inside_of_base64(skip: int) -> None:
    sample = np.random.default_rng(skip).bytes(32)
    searched = Needles([], [sample])
    data = b"\0" * skip + sample + b"\0\0"
    for encoded in (data, base64.b64encode(data), b"12345" + base64.b64encode(data)):
        assert searched.within(encoded)
        assert not searched.within(encoded.swapcase())
