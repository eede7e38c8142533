"""Inversions with landmarks that somebody already has, against those of detection."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from restyle.core.errors import SpecError
from restyle.core.faces.alignment import Framing, align_faces, crop_quad
from restyle.core.imaging.decoding import decode_image
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.decoding.crops import CropSettings, DecodedCrop, MarkedFile, read_crops
from restyle.pipeline.execution.request import Outcome, Request
from restyle.pipeline.inversion.retry import Retry, retry_rejects
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.planning.input_plan import InputPlan, plan_only
from restyle.pipeline.sources import given_landmarks
from restyle.pipeline.sources.given_landmarks import read_landmarks
from restyle.pipeline.sources.local_files import local_image
from restyle.pipeline.sources.options import InputOptions
from tests.pipeline.in_process import run_units
from tests.pipeline.inversion.test_run import Heard, engine, never
from tests.pipeline.sources.landmarks.layouts import ANY_COUNT, OF_68, OF_FIVE, Rows, json_object
from tests.pipeline.sources.test_given_landmarks import Direct

NAMES = ("smile.jpg", "evening.jpg", "two friends.jpg", "three-at-the-window.jpg")
MOVED = np.array([3, 2])
SETTINGS = CropSettings(align=True, faces="all", size=(256, 256), framing_scale=0.9)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_landmarks, "ShardProcess", Direct)


@pytest.fixture(scope="module")
def detected(photos: Path) -> Rows:
    """Names and dlib's landmarks of all faces."""
    return [
        (name, face.landmarks)
        for name in NAMES
        for face in align_faces(decode_image((photos / name).read_bytes()), 32, "all")
    ]


def crops(photos: Path, name: str, landmarks: str | None = None) -> list[DecodedCrop]:
    """The crops of a photograph as a worker cuts them out, from left to right."""
    image = local_image(str(photos / name))
    assert image is not None
    settings, data = SETTINGS, (photos / name).read_bytes()
    if landmarks is None:
        found = read_crops(data, settings)
    else:
        ((given,),) = read_landmarks(landmarks).given([[image]])
        assert not given.fault
        settings = replace(settings, has_landmarks=True)
        found = read_crops(MarkedFile(data, given.landmarks), settings)
    return sorted(found, key=lambda crop: float(crop.quad[0, 0]))


@pytest.fixture(scope="module")
def of_detection(photos: Path) -> dict[str, list[DecodedCrop]]:
    return {name: crops(photos, name) for name in NAMES}


@pytest.mark.parametrize("layout", [*ANY_COUNT, *OF_68])
def test_dlibs_landmarks_give_the_crops_of_detection_in_every_layout(
    layout: str,
    detected: Rows,
    of_detection: dict[str, list[DecodedCrop]],
    photos: Path,
    tmp_path: Path,
) -> None:
    (ANY_COUNT | OF_68)[layout](tmp_path / layout, detected)
    for name, expected in of_detection.items():
        found = crops(photos, name, str(tmp_path / layout))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one.quad, other.quad)
            assert np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("layout", OF_FIVE)
def test_five_whole_numbers_move_a_crop_by_less_than_a_pixel_of_256(
    layout: str,
    detected: Rows,
    of_detection: dict[str, list[DecodedCrop]],
    photos: Path,
    tmp_path: Path,
) -> None:
    """As CelebA's table has them, with the eyes' centres as dlib's six points tell them."""
    five = []
    for name, points in detected:
        eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
        five.append((name, np.rint([*eyes, points[30], points[48], points[54]]).astype(int)))
    OF_FIVE[layout](tmp_path / layout, five)
    for name, expected in of_detection.items():
        found = crops(photos, name, str(tmp_path / layout))
        for one, other in zip(found, expected, strict=True):
            side = np.hypot(*(other.quad[3] - other.quad[0]))
            moved = np.hypot(*(one.quad - other.quad).T).max() / side * 256
            grey = np.abs(one.pixels.astype(int) - other.pixels).mean()
            assert 0 < moved < 2.0
            assert grey < 3.0


@dataclass
class Job:
    """Copies of photographs, and inversions of them with a file of landmarks."""

    folder: Path
    model: Path
    photos: Path

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def copy(self, *names: str) -> None:
        self.images.mkdir(exist_ok=True)
        for name in names:
            shutil.copy(self.photos / name, self.images / name)

    def request(self, landmarks: Path | None, **options: object) -> Request:
        given = {"steps": 1, "faces": "all", "metrics": (), "dtype": "fp32"} | options
        settings = InversionSettings(model=str(self.model), **given)  # type: ignore[arg-type]
        where = InputOptions(landmarks=None if landmarks is None else str(landmarks))
        return Request(str(self.images), str(self.out), settings, device="cpu", input=where)

    def invert(self, landmarks: Path | None, units: object = run_units) -> tuple[Outcome, Heard]:
        heard = Heard()
        request = self.request(landmarks)
        return invert_images(request, heard, engine(units)), heard  # type: ignore[arg-type]

    def write(self, rows: Rows) -> Path:
        json_object(self.folder / "l.json", rows)
        return self.folder / "l.json"

    def latents(self) -> pd.DataFrame:
        frame = pd.read_parquet(self.out / "latents")
        frame["name"] = [Path(source).name for source in frame.source]
        frame["left"] = [quad[0] for quad in frame.quad]
        return frame.sort_values(["name", "revision", "left"], ignore_index=True)

    def rejects(self) -> list[tuple[str, int, str, str]]:
        frame = pd.read_parquet(self.out / "rejects")
        rows = zip(frame.source, frame.revision, frame.stage, frame.reason, strict=True)
        return sorted((Path(source).name, *rest) for source, *rest in rows)

    def problems(self) -> list[str]:
        return verify(str(self.out)).problems


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path, photos: Path) -> Job:
    return Job(tmp_path, tiny_model, photos)


def test_rows_are_those_of_detection(job: Job, detected: Rows) -> None:
    job.copy(*NAMES)
    outcome, _ = job.invert(None)
    expected = job.latents()
    shutil.move(job.out, job.folder / "detected")
    outcome, _ = job.invert(job.write(detected))
    assert outcome.summary.faces == len(detected)
    found = job.latents()
    for column in ("name", "latent", "quad"):
        assert np.array_equal(np.stack(found[column]), np.stack(expected[column])), column
    settings = json.loads((job.out / "_ledger" / "settings.json").read_bytes())
    assert settings["landmarks"] == "given"
    record = json.loads((job.out / "run.json").read_bytes())
    assert record["asked"]["landmarks"] == str(job.folder / "l.json")
    assert job.problems() == []


def test_landmarks_are_for_the_run_that_began_with_them(job: Job, detected: Rows) -> None:
    job.copy("smile.jpg")
    landmarks = job.write(detected)
    job.invert(landmarks)
    with pytest.raises(SpecError, match="landmarks: given -> default"):
        job.invert(None)
    shutil.rmtree(job.out)
    job.invert(None)
    with pytest.raises(SpecError, match="landmarks: default -> given"):
        job.invert(landmarks)
    request = job.request(landmarks, align=False)
    with pytest.raises(SpecError, match="leave --landmarks out"):
        invert_images(request, Heard(), engine(never))


def test_what_does_not_fit_is_rejected_with_its_reason(job: Job, detected: Rows) -> None:
    job.copy(*NAMES)
    (job.images / "empty.jpg").write_bytes(b"")
    points = dict(detected)
    rows = [
        ("evening.jpg", points["evening.jpg"][:60]),
        ("two friends.jpg", points["two friends.jpg"] + [5000, 0]),
        ("three-at-the-window.jpg", points["three-at-the-window.jpg"]),
        ("empty.jpg", points["smile.jpg"]),
    ]
    outcome, _ = job.invert(job.write(rows))
    assert outcome.summary.faces == 1
    assert job.rejects() == [
        ("empty.jpg", 1, "align", "empty"),
        ("evening.jpg", 1, "plan", "bad_landmarks"),
        ("smile.jpg", 1, "plan", "no_landmarks"),
        ("two friends.jpg", 1, "align", "landmarks_outside"),
    ]
    assert job.problems() == []
    text = (job.out / "report.html").read_text()
    assert all(each in text for each in ("unusable landmarks", "landmarks outside of it"))

    # A retry takes the landmarks from the manifest; faults of the file stay.
    heard = Heard()
    retry = Retry(str(job.out), tuple(outcome.summary.rejects), device="cpu")  # type: ignore[arg-type]
    retry_rejects(retry, heard, engine(run_units))
    assert any("2 rejected inputs are tried again" in line for line in heard.lines)
    assert any(line.startswith("still rejected: 2 inputs found faulty") for line in heard.lines)
    assert [row[:2] for row in job.rejects()] == [
        ("empty.jpg", 2),
        ("evening.jpg", 1),
        ("smile.jpg", 1),
        ("two friends.jpg", 2),
    ]
    assert job.problems() == []

    # Where the file is corrected, the same command does what it lacked, and nothing else.
    outcome, _ = job.invert(job.write(detected))
    assert outcome.images == 4
    assert job.rejects() == [("empty.jpg", 2, "align", "empty")]
    assert job.problems() == []


def test_a_second_run_does_what_is_new_or_has_other_landmarks(job: Job, detected: Rows) -> None:
    job.copy("smile.jpg", "evening.jpg")
    landmarks = job.write(
        [each for each in detected if each[0] == "smile.jpg"]
        + [(name, points) for name, points in detected if name == "evening.jpg"]
    )
    job.invert(landmarks)
    outcome, _ = job.invert(landmarks, never)
    assert outcome.images == 0

    # New photographs, in a file of their own, and others that are not in it any more.
    job.copy("two friends.jpg")
    landmarks = job.write([each for each in detected if each[0] == "two friends.jpg"])
    outcome, heard = job.invert(landmarks)
    assert outcome.images == 1
    assert not any("changed" in line for line in heard.lines)

    moved = [(name, points + MOVED) for name, points in detected if name == "smile.jpg"]
    outcome, heard = job.invert(job.write(moved))
    assert outcome.images == 1
    assert any(line.startswith("1 input has changed since it was planned") for line in heard.lines)
    frame = job.latents()
    assert list(zip(frame.name, frame.revision, strict=True)) == [
        ("evening.jpg", 1),
        ("smile.jpg", 1),
        ("smile.jpg", 2),
        ("two friends.jpg", 1),
        ("two friends.jpg", 1),
    ]
    before, after = (frame.quad[index].reshape(4, 2) for index in (1, 2))
    assert np.allclose(after - before, MOVED)
    assert job.problems() == []


def test_members_of_an_archive_that_is_planned_get_other_landmarks(
    job: Job, detected: Rows
) -> None:
    job.images.mkdir()
    with tarfile.open(job.images / "a.tar", "w") as archive:
        for name in ("smile.jpg", "evening.jpg"):
            archive.add(job.photos / name, f"img/{name}")
    job.invert(job.write(detected))
    moved = [(name, points + MOVED) for name, points in detected if name == "smile.jpg"]
    outcome, _ = job.invert(job.write(moved))
    assert outcome.images == 1
    frame = pd.read_parquet(job.out / "latents")
    assert sorted(zip(frame.source.str.split("::").str[1], frame.revision, strict=True)) == [
        ("img/evening.jpg", 1),
        ("img/smile.jpg", 1),
        ("img/smile.jpg", 2),
    ]
    assert job.problems() == []


def test_a_plan_holds_the_landmarks_for_the_run(job: Job, detected: Rows) -> None:
    job.copy("smile.jpg")
    landmarks = job.write(detected)
    options = InputOptions(landmarks=str(landmarks))
    plan_only(InputPlan(str(job.images), str(job.out), options), Heard())
    outcome, _ = job.invert(landmarks)
    assert (outcome.images, outcome.summary.faces) == (1, 1)
    # Plans without landmarks have no column for them, as those of earlier versions.
    plain = job.folder / "plain"
    plan_only(InputPlan(str(job.images), str(plain), InputOptions()), Heard())
    assert "landmarks" not in pd.read_parquet(plain / "_ledger" / "plan-000000.parquet")


def test_a_file_that_fits_nothing_leaves_nothing_behind(job: Job, detected: Rows) -> None:
    job.copy("smile.jpg")
    landmarks = job.write([("other.jpg", points) for _, points in detected[:1]])
    with pytest.raises(
        SpecError, match=r"its first key is 'other.jpg', the first input is .*smile"
    ):
        job.invert(landmarks)
    assert not list(job.out.rglob("plan-*"))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_landmarks_are_those_of_the_upright_photograph(
    orientation: int, job: Job, detected: Rows
) -> None:
    """The photograph is stored turned, with the mark by which a camera says so."""
    upright = decode_image((job.photos / "smile.jpg").read_bytes())
    turns: Sequence[Image.Transpose | None] = {
        1: [None],
        3: [Image.Transpose.ROTATE_180],
        6: [Image.Transpose.ROTATE_90],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    stored = upright if turns[0] is None else upright.transpose(turns[0])
    job.images.mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(job.images / "smile.png", exif=exif)
    points = next(each for name, each in detected if name == "smile.jpg")
    json_object(job.folder / "l.json", [("smile.png", points)])
    (crop,) = crops(job.images, "smile.png", str(job.folder / "l.json"))
    (face,) = align_faces(upright, 256, framing=Framing(0.9), landmarks=points)
    assert np.array_equal(crop.quad, face.quad)
    assert np.array_equal(crop.pixels, crop_quad(upright, face.quad, 256, exact=False))


def test_the_largest_of_the_given_faces(job: Job, detected: Rows) -> None:
    rows = [points for name, points in detected if name == "three-at-the-window.jpg"]
    larger = (rows[1] - rows[1].mean(axis=0)) * 1.2 + rows[1].mean(axis=0)
    rows = [rows[0], larger, rows[2]]
    job.copy("three-at-the-window.jpg")
    landmarks = job.write([("three-at-the-window.jpg", points) for points in rows])
    request = job.request(landmarks, faces="largest")
    invert_images(request, Heard(), engine(run_units))
    frame = job.latents()
    image = decode_image((job.images / "three-at-the-window.jpg").read_bytes())
    framing = Framing(*_framing(job.model))
    (face,) = align_faces(image, 32, framing=framing, landmarks=larger)
    assert len(frame) == 1
    assert np.array_equal(frame.quad[0].reshape(4, 2), face.quad)


def _framing(model: Path) -> tuple[float, float]:
    config = json.loads((model / "model.json").read_bytes())
    return config.get("framing_scale", 1.0), config.get("framing_shift", 0.0)
