"""Speed and results of alignment beside those of the published recipe, photograph by photograph."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from restyle.core.errors import RejectError, RejectReason
from restyle.core.imaging.png import encode_png
from restyle.core.stage_clock import ALIGNMENT, StageClock
from restyle.pipeline.decoding.crops import CropSettings, DecodedCrop, read_crops
from restyle.pipeline.decoding.published import published_crops

MEGAPIXELS = (0.25, 0.5, 1, 2, 4, 8, 12, 24, 48, 96)
"""Classes of photographs; each belongs to the nearest, in ratio."""

# Two crops are of one face if their centres differ by less than this share of the side, and their
# sides by less than this factor.
_OFFSET = 0.25
_FACTOR = 1.5

CLOSE, NEAR = 1.0, 3.0
"""Mean differences of two crops in grey levels, for which the share of faces is told."""


@dataclass(frozen=True)
class Run:
    """One photograph aligned once.

    Attributes:
        crops: of its faces; empty where none is found.
        seconds: of the processor, in all.
        stages: of the processor, by stage.
    """

    crops: list[DecodedCrop]
    seconds: float
    stages: dict[str, float]


@dataclass(frozen=True)
class Compared:
    """One photograph aligned both ways.

    Attributes:
        name: of the photograph.
        megapixels: its class.
        exact: by the published recipe.
        fast: by the detector that is measured.
        same: number of faces that both found.
        differences: mean difference of each of these faces' crops, in grey levels.
    """

    name: str
    megapixels: float
    exact: Run
    fast: Run
    same: int
    differences: list[float] = field(default_factory=list)


def megapixel_class(data: bytes) -> float | None:
    """Class of an encoded image by what its header says; None for what is no image."""
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as image:
        pixels = image.width * image.height / 1e6
        return min(MEGAPIXELS, key=lambda each: abs(math.log(each / pixels)))
    return None


def compare(name: str, data: bytes, settings: CropSettings, repeats: int = 1) -> Compared | None:
    """Align a photograph by its detector and by the published recipe.

    Args:
        name: to show.
        data: content of the file.
        settings: with the detector to measure.
        repeats: number of measurements of the faster way, whose median counts.

    Returns:
        The comparison; None if the file cannot be decoded.
    """
    megapixels = megapixel_class(data)
    if megapixels is None:
        return None
    try:
        runs = sorted((_run(data, settings) for _ in range(repeats)), key=lambda run: run.seconds)
        fast = runs[len(runs) // 2]
        exact = _run(data, settings, published_crops)
    except RejectError:
        return None
    pairs = list(_pairs(exact.crops, fast.crops))
    differences = [
        float(np.abs(one.pixels.astype(np.int16) - other.pixels).mean()) for one, other in pairs
    ]
    return Compared(name, megapixels, exact, fast, len(pairs), differences)


def warm_up(settings: CropSettings) -> None:
    """Load what the first photograph would load."""
    blank = encode_png(np.full((256, 256, 3), 128, np.uint8))
    for way in (read_crops, published_crops):
        _run(blank, settings, way)


def _run(
    data: bytes,
    settings: CropSettings,
    way: Callable[[bytes, CropSettings], list[DecodedCrop]] | None = None,
) -> Run:
    way = way or read_crops
    clock = StageClock(time.process_time)
    started = time.process_time()
    try:
        with clock.running():
            crops = way(data, settings)
    except RejectError as error:
        if error.reason is not RejectReason.NO_FACE:
            raise
        crops = []
    return Run(crops, time.process_time() - started, clock.seconds)


def _pairs(
    exact: Sequence[DecodedCrop], fast: Sequence[DecodedCrop]
) -> Iterator[tuple[DecodedCrop, DecodedCrop]]:
    """Crops of the same face, each crop at most once."""
    left = list(fast)
    for one in exact:
        for other in left:
            if _is_same(one, other):
                left.remove(other)
                yield one, other
                break


def _is_same(one: DecodedCrop, other: DecodedCrop) -> bool:
    sides = [float(np.hypot(*(crop.quad[3] - crop.quad[0]))) for crop in (one, other)]
    offset = float(np.hypot(*(one.quad.mean(axis=0) - other.quad.mean(axis=0))))
    return offset < _OFFSET * min(sides) and max(sides) < _FACTOR * min(sides)


@dataclass(frozen=True)
class Speed:
    """Speed of one class of photographs on one core.

    Attributes:
        megapixels: the class.
        photographs: number of them.
        exact: photographs a second by the published recipe.
        fast: photographs a second by the detector that is measured.
        decoding: photographs a second if they were only decoded, at full size.
        ratios: how many times as fast each photograph is: lower quartile, median, upper quartile.
        stages: mean milliseconds of each stage, by the recipe and by the detector.
    """

    megapixels: float
    photographs: int
    exact: float
    fast: float
    decoding: float
    ratios: tuple[float, float, float]
    stages: dict[str, tuple[float, float]]

    @property
    def ratio(self) -> float:
        """How many times as fast the photographs are together."""
        return self.fast / self.exact


def speeds(compared: Iterable[Compared]) -> list[Speed]:
    """The speed of each class, smallest photographs first."""
    ordered = sorted(compared, key=lambda each: each.megapixels)
    return [
        _speed(megapixels, list(group))
        for megapixels, group in itertools.groupby(ordered, lambda each: each.megapixels)
    ]


def _speed(megapixels: float, group: Sequence[Compared]) -> Speed:
    def rate(seconds: Iterable[float]) -> float:
        return len(group) / max(sum(seconds), 1e-9)

    ratios = [each.exact.seconds / max(each.fast.seconds, 1e-9) for each in group]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return Speed(
        megapixels=megapixels,
        photographs=len(group),
        exact=rate(each.exact.seconds for each in group),
        fast=rate(each.fast.seconds for each in group),
        decoding=rate(each.exact.stages.get("decode", 0.0) for each in group),
        ratios=(low, middle, high),
        stages={
            name: (
                1000 * statistics.fmean(each.exact.stages.get(name, 0.0) for each in group),
                1000 * statistics.fmean(each.fast.stages.get(name, 0.0) for each in group),
            )
            for name in ALIGNMENT[1:]
        },
    )


@dataclass(frozen=True)
class Agreement:
    """How far the faces of both ways are the same.

    Attributes:
        exact: number of faces by the published recipe.
        fast: number of faces by the detector that is measured.
        same: number of faces found by both.
        close: share of the same faces whose crops differ by at most ``CLOSE``.
        near: the same for ``NEAR``.
        worst: largest difference in grey levels, and the photograph; None without faces.
        missed: photographs with faces that only the recipe found.
        added: photographs with faces that only the detector found.
    """

    exact: int
    fast: int
    same: int
    close: float
    near: float
    worst: tuple[float, str] | None
    missed: list[str]
    added: list[str]


def agreement(compared: Sequence[Compared]) -> Agreement:
    """The agreement over all photographs."""
    differences = [(value, each.name) for each in compared for value in each.differences]
    total = max(len(differences), 1)
    return Agreement(
        exact=sum(len(each.exact.crops) for each in compared),
        fast=sum(len(each.fast.crops) for each in compared),
        same=sum(each.same for each in compared),
        close=sum(value <= CLOSE for value, _ in differences) / total,
        near=sum(value <= NEAR for value, _ in differences) / total,
        worst=max(differences, default=None),
        missed=[each.name for each in compared if len(each.exact.crops) > each.same],
        added=[each.name for each in compared if len(each.fast.crops) > each.same],
    )
