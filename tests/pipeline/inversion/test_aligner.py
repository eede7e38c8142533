from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from restyle.core.errors import RejectReason
from restyle.core.stage_clock import StageClock
from restyle.pipeline.decoding.sandbox import CropSettings, Outcome
from restyle.pipeline.inversion import aligner as module
from restyle.pipeline.inversion.aligner import AlignedUnit, Aligner
from restyle.pipeline.ledger.manifest import Unit
from restyle.pipeline.sources.reader import Sized
from restyle.pipeline.sources.source_image import SourceImage, image_id
from tests.pipeline.in_process import DirectCropper

WHOLE = CropSettings(align=False, faces="largest", size=(32, 32))


class NotingCropper(DirectCropper):
    """Notes the groups that all of its kind are given."""

    groups: list[Sequence[bytes]]

    def __call__(self, files: Sequence[bytes]) -> list[Outcome]:
        type(self).groups.append(files)
        return super().__call__(files)


@pytest.fixture(autouse=True)
def cropper(monkeypatch: pytest.MonkeyPatch) -> type[NotingCropper]:
    NotingCropper.groups = []
    monkeypatch.setattr(module, "IsolatedCropper", NotingCropper)
    return NotingCropper


@pytest.fixture
def images(tmp_path: Path) -> tuple[SourceImage, ...]:
    """A hundred pictures of different sizes."""
    made = []
    for number in range(100):
        path = tmp_path / f"{number:03d}.png"
        Image.new("RGB", (40 + number, 40), "red").save(path)
        uri = path.as_uri().encode()
        made.append(SourceImage(image_id(uri), path.name, uri, path.stat().st_size, "v"))
    return tuple(made)


def align(
    images: tuple[SourceImage, ...], settings: CropSettings = WHOLE, processes: int = 2
) -> AlignedUnit:
    aligner = Aligner("/nowhere", settings, processes)
    try:
        return aligner(Unit("u", images))
    finally:
        aligner.close()


def test_parts_of_the_stage_are_those_of_its_unit(
    images: tuple[SourceImage, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock ticks whenever it is read: twice for each file that is read, or more often."""
    ticks = itertools.count()
    monkeypatch.setattr(module, "StageClock", lambda: StageClock(lambda: next(ticks)))
    aligner = Aligner("/nowhere", WHOLE, 1)
    try:
        whole = aligner(Unit("u", images))
        few = aligner(Unit("v", images[:10]))
    finally:
        aligner.close()
    assert set(whole.parts) == set(few.parts) == {"read", "decode"}
    assert whole.parts["read"] >= 100
    assert 10 <= few.parts["read"] < 100


def test_crops_come_in_the_order_of_the_inputs(images: tuple[SourceImage, ...]) -> None:
    images = tuple(replace(image, revision=3) for image in images)
    aligned = align(images)
    assert [crop.image_id for crop in aligned.crops] == [image.image_id for image in images]
    # The quad is the picture's outline, so that it tells one from the other.
    assert [crop.quad[2, 0] + 0.5 for crop in aligned.crops] == [40 + n for n in range(100)]
    assert {crop.revision for crop in aligned.crops} == {3}


def test_groups_leave_work_for_every_process(
    images: tuple[SourceImage, ...], cropper: type[NotingCropper]
) -> None:
    align(images)
    assert {len(group) for group in cropper.groups} == {100 // 8, 100 % 12}
    cropper.groups.clear()
    align(images[:5])
    assert [len(group) for group in cropper.groups] == [1] * 5
    cropper.groups.clear()
    align(images, processes=1)
    assert max(len(group) for group in cropper.groups) == 16


def test_large_files_go_alone(
    images: tuple[SourceImage, ...],
    cropper: type[NotingCropper],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_GROUP_BYTES", images[0].size - 1)
    assert len(align(images).crops) == 100
    assert {len(group) for group in cropper.groups} == {1}


def test_files_that_wait_are_bounded(
    images: tuple[SourceImage, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for three files, no fourth is read before one of them is done."""
    largest = max(image.size for image in images)
    monkeypatch.setattr(module, "READ_AHEAD", 3 * largest)
    monkeypatch.setattr(module, "_GROUP_BYTES", 0)
    lock, most, now = threading.Lock(), 0, 0

    class CountingAligner(Aligner):
        def _read(self, image: SourceImage, sized: Sized) -> bytes | module.Reject:
            nonlocal most, now
            with lock:
                now += image.size
                most = max(most, now)
            return super()._read(image, sized)

        def _crop(self, files: Sequence[bytes]) -> list[Outcome]:
            nonlocal now
            outcomes = super()._crop(files)
            with lock:
                now -= sum(map(len, files))
            return outcomes

    aligner = CountingAligner("/nowhere", WHOLE, 2)
    aligned = aligner(Unit("u", images))
    aligner.close()
    assert len(aligned.crops) == 100
    assert largest < most <= 3 * largest


def test_several_units_at_once_stay_apart(images: tuple[SourceImage, ...]) -> None:
    aligner = Aligner("/nowhere", WHOLE, 2)
    parts = [images[start : start + 20] for start in range(0, 100, 20)]
    aligned: dict[int, AlignedUnit] = {}

    def run(number: int) -> None:
        aligned[number] = aligner(Unit(str(number), parts[number]))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    aligner.close()
    for number, part in enumerate(parts):
        ids = [crop.image_id for crop in aligned[number].crops]
        assert ids == [image.image_id for image in part]


def test_what_planning_rejected_is_not_read(images: tuple[SourceImage, ...]) -> None:
    fault = f"{RejectReason.UNSAFE_NAME}|it names ../x|y"
    gone = replace(images[1], uri=b"file:///nowhere/at/all", fault=fault, revision=2)
    aligned = align((images[0], gone, images[2]))
    (reject,) = aligned.rejects
    assert (reject.stage, reject.reason, reject.message, reject.revision) == (
        "plan",
        RejectReason.UNSAFE_NAME,
        "it names ../x|y",
        2,
    )
    assert len(aligned.crops) == 2


def test_an_input_that_is_neither_crop_nor_reject_is_noticed() -> None:
    with pytest.raises(ValueError, match="0 of 1 inputs"):
        AlignedUnit("u", 1, [], [], 0.0)


def test_sizes_that_no_listing_gave_are_no_obstacle(images: tuple[SourceImage, ...]) -> None:
    unknown = tuple(replace(image, size=-1) for image in images)
    assert len(align(unknown).crops) == 100


@pytest.mark.parametrize("most_at_once", [1, 100])
def test_large_files_of_unknown_size_are_held_one_at_a_time(
    images: tuple[SourceImage, ...], monkeypatch: pytest.MonkeyPatch, most_at_once: int
) -> None:
    """As lists name them; those that are not large are held by every thread."""
    monkeypatch.setattr(module, "_LARGE", 1 if most_at_once == 1 else 1 << 20)
    lock, held, most = threading.Lock(), 0, 0

    class CountingAligner(Aligner):
        def _read(self, image: SourceImage, sized: Sized) -> bytes | module.Reject:
            nonlocal held, most
            data = super()._read(image, sized)
            with lock:
                held += 1
                most = max(most, held)
            return data

        def _crop(self, files: Sequence[bytes]) -> list[Outcome]:
            nonlocal held
            outcomes = super()._crop(files)
            with lock:
                held -= len(files)
            return outcomes

    aligner = CountingAligner("/nowhere", WHOLE, 4)
    unknown = tuple(replace(image, size=-1) for image in images)
    aligned = aligner(Unit("u", unknown))
    aligner.close()
    assert [crop.image_id for crop in aligned.crops] == [image.image_id for image in images]
    assert (most == 1) == (most_at_once == 1)
