from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from skimage.data import astronaut

from restyle.core.errors import FatalError, RejectError, RejectReason
from restyle.core.faces.alignment import align_faces
from restyle.core.imaging.decoding import decode_image
from restyle.core.stage_clock import ALIGNMENT, StageClock
from restyle.pipeline.decoding import child as isolation_child
from restyle.pipeline.decoding import sandbox as isolation
from restyle.pipeline.decoding.sandbox import (
    GROUP,
    CropSettings,
    IsolatedCropper,
    Outcome,
    SharedArea,
    read_crops,
)
from restyle.pipeline.inversion.aligner import MAX_FILE_BYTES, Aligner
from restyle.pipeline.ledger.manifest import Unit
from restyle.pipeline.sources import SourceImage, iter_images
from restyle.pipeline.sources.options import InputOptions
from tests.hostile import CRASHES, HANGS, KILLS_ONCE, poison

WHOLE = CropSettings(align=False, faces="largest", size=(48, 64), time_limit=3)


def png(size: tuple[int, int] = (40, 80), colour: str = "red") -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", poison(tmp_path))


@pytest.fixture
def cropper() -> Iterator[IsolatedCropper]:
    made = IsolatedCropper(WHOLE)
    yield made
    made.close()


def test_a_whole_image_is_squashed_as_pillow_does_and_its_quad_is_its_outline() -> None:
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (80, 40, 3), dtype=np.uint8))
    target = io.BytesIO()
    photo.save(target, "PNG")
    (crop,) = read_crops(target.getvalue(), WHOLE)
    assert np.array_equal(
        crop.pixels, np.asarray(photo.resize((64, 48), Image.Resampling.BILINEAR))
    )
    assert (crop.quad + 0.5).tolist() == [[0, 0], [0, 80], [40, 80], [40, 0]]


def test_faces_are_those_of_align_faces(photos: Path) -> None:
    data = (photos / "two friends.jpg").read_bytes()
    settings = CropSettings(align=True, faces="all", size=(256, 256))
    crops = read_crops(data, settings)
    faces = align_faces(decode_image(data), 256, "all")
    assert len(crops) == len(faces) >= 2
    for crop, face in zip(crops, faces, strict=True):
        assert np.array_equal(crop.pixels, np.asarray(face.image))
        assert np.array_equal(crop.quad, face.quad)


def rejection(outcome: Outcome) -> tuple[RejectReason, str]:
    assert isinstance(outcome, RejectError)
    return outcome.reason, str(outcome)


def pixels(outcome: Outcome) -> npt.NDArray[np.uint8]:
    assert not isinstance(outcome, RejectError)
    (crop,) = outcome
    return crop.pixels


def test_decoding_is_behind_what_shares_its_cores(cropper: IsolatedCropper) -> None:
    (outcome,) = cropper([png()])
    assert not isinstance(outcome, Exception)
    assert cropper._child is not None
    niceness = os.getpriority(os.PRIO_PROCESS, cropper._child.process._process.pid)
    assert niceness == min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)


def test_a_group_is_what_its_files_are_alone(cropper: IsolatedCropper) -> None:
    colours = ["red", "lime", "blue", "white", "black"] * 9
    files = [png((40 + index, 50), colour) for index, colour in enumerate(colours)]
    files[3:3] = [b"", b"text"]
    assert len(files) > 2 * GROUP
    outcomes = cropper(files)
    assert len(outcomes) == len(files)
    for outcome, file in zip(outcomes, files, strict=True):
        if file in (b"", b"text"):
            with pytest.raises(RejectError) as caught:
                read_crops(file, WHOLE)
            assert rejection(outcome) == (caught.value.reason, str(caught.value))
        else:
            (expected,) = read_crops(file, WHOLE)
            assert np.array_equal(pixels(outcome), expected.pixels)
            assert isinstance(outcome, list)
            assert np.array_equal(outcome[0].quad, expected.quad)


def test_more_faces_than_the_shared_memory_holds_come_too(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides' parts in one process, with room for two crops only."""
    monkeypatch.setattr(isolation, "GROUP", 2)
    settings = CropSettings(align=True, faces="all", size=(256, 256))
    data = (photos / "three-at-the-window.jpg").read_bytes()
    expected = read_crops(data, settings)
    assert len(expected) == 3
    memory = os.memfd_create("crops")
    ours, theirs = SharedArea(memory, settings.size), SharedArea(memory, settings.size)
    os.close(memory)
    answer = isolation_child.answer([b"", data, b"text"], settings, theirs)
    assert len(answer.extra) == 1
    first, faces, last = ours.take(answer)
    theirs.crops[:] = 0
    assert rejection(first)[0] is RejectReason.EMPTY
    assert rejection(last)[0] is RejectReason.NOT_AN_IMAGE
    assert isinstance(faces, list)
    for crop, wanted in zip(faces, expected, strict=True):
        assert np.array_equal(crop.pixels, wanted.pixels)
        assert np.array_equal(crop.quad, wanted.quad)


def test_seconds_of_each_stage_reach_the_clock_that_runs_here(photos: Path) -> None:
    """A photograph passes all stages; one that is no image ends in the first."""
    cropper = IsolatedCropper(CropSettings(align=True, faces="all", size=(256, 256)))
    aligned, refused = StageClock(), StageClock()
    try:
        with aligned.running():
            cropper([(photos / "two friends.jpg").read_bytes(), b"text"])
        with refused.running():
            cropper([b"text"])
    finally:
        cropper.close()
    # Reading is the parent's.
    assert set(aligned.seconds) == set(ALIGNMENT) - {"read"}
    assert set(refused.seconds) == {"decode"}
    assert aligned.seconds["detect"] > refused.seconds["decode"] > 0


@pytest.mark.usefixtures("poisoned")
def test_what_crashes_or_hangs_in_a_group_costs_itself_alone(cropper: IsolatedCropper) -> None:
    good = [png((40, 80), colour) for colour in ("red", "lime", "blue", "white")]
    files = [good[0], CRASHES, good[1], HANGS, good[2], b"", CRASHES, good[3]]
    outcomes = cropper(files)
    assert len(outcomes) == len(files)
    for index in (1, 6):
        reason, message = rejection(outcomes[index])
        assert (reason, "SIGSEGV" in message) == (RejectReason.CRASHED, True)
    reason, message = rejection(outcomes[3])
    assert (reason, "more than 3 s" in message) == (RejectReason.TIMED_OUT, True)
    assert rejection(outcomes[5])[0] is RejectReason.EMPTY
    for place, file in zip((0, 2, 4, 7), good, strict=True):
        assert np.array_equal(pixels(outcomes[place]), read_crops(file, WHOLE)[0].pixels)


@pytest.mark.usefixtures("poisoned")
def test_a_child_that_is_killed_from_outside_costs_no_image(
    cropper: IsolatedCropper, tmp_path: Path
) -> None:
    """The poisoned decoder kills its own process, but only the first time."""
    files = [png(), KILLS_ONCE + str(tmp_path / "killed").encode(), png()]
    outcomes = cropper(files)
    assert (tmp_path / "killed").exists()
    assert rejection(outcomes[1])[0] is RejectReason.NOT_AN_IMAGE
    assert np.array_equal(pixels(outcomes[0]), pixels(outcomes[2]))


def test_a_child_that_is_killed_while_it_starts_is_started_again(cropper: IsolatedCropper) -> None:
    cropper.start()
    assert cropper._child is not None
    cropper._child.process._process.kill()
    (outcome,) = cropper([png()])
    assert pixels(outcome).shape == (48, 64, 3)


def test_children_that_never_live_to_start_are_fatal(
    cropper: IsolatedCropper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when memory does not suffice for a single one."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FatalError, match="SIGKILL"):
        cropper([png()])


def test_a_child_that_cannot_work_is_no_image_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FatalError, match="exit code 7"):
        IsolatedCropper(WHOLE)([png()])


def test_a_missing_landmark_predictor_is_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTYLE_LANDMARKS", str(tmp_path / "none.dat"))
    settings = CropSettings(align=True, faces="all", size=(256, 256))
    cropper = IsolatedCropper(settings)
    with pytest.raises(FatalError, match=r"none.dat"):
        cropper([png()])
    cropper.close()


def test_every_input_of_a_unit_is_a_crop_or_a_reject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a.png": png(), "b.png": b"", "c.jpg": b"text", "d.png": png((41, 50), "blue")}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "e.png").symlink_to(tmp_path / "gone")
    (images,) = iter_images(str(tmp_path), "/out", InputOptions())
    big = SourceImage("f" * 32, "/f.png", b"file:///f.png", MAX_FILE_BYTES + 1, "")
    aligner = Aligner(str(tmp_path), WHOLE, 2)
    aligned = aligner(Unit("u", (*images, big)))
    aligner.close()
    assert [Path(crop.source).name for crop in aligned.crops] == ["a.png", "d.png"]
    assert [(Path(r.source).name, r.stage, r.reason) for r in aligned.rejects] == [
        ("b.png", "align", RejectReason.EMPTY),
        ("c.jpg", "align", RejectReason.NOT_AN_IMAGE),
        ("e.png", "read", RejectReason.UNREADABLE),
        ("f.png", "read", RejectReason.TOO_LARGE),
    ]
    assert all("\n" not in reject.message for reject in aligned.rejects)


def test_a_child_with_auto_says_which_detector_found_each_face() -> None:
    portrait = Image.fromarray(astronaut())
    files = []
    for photo in (portrait, portrait.rotate(90, expand=True)):
        target = io.BytesIO()
        photo.save(target, "PNG")
        files.append(target.getvalue())
    cropper = IsolatedCropper(CropSettings(True, "largest", (256, 256), detector="auto"))
    try:
        (upright,), (turned,) = cropper(files)
    finally:
        cropper.close()
    assert (upright.detector, turned.detector) == ("hog", "cnn")
    assert np.abs(turned.pixels - upright.pixels.astype(float)).mean() < 12
