"""``restyle bench --align``: the speed of alignment beside the published recipe."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from restyle.core.errors import RejectError, SpecError
from restyle.jobs.display.terminal import console

if TYPE_CHECKING:
    from rich.table import Table

    from restyle.pipeline.decoding.comparison import Agreement, Compared, Speed
    from restyle.pipeline.decoding.crops import CropSettings
    from restyle.pipeline.sources.source_image import SourceImage

_SHOWN = 5
"""Maximum number of photographs named in a line."""


def crop_settings(faces: str, detector: str) -> CropSettings:
    """Settings of FFHQ's crops.

    Raises:
        SpecError: there is no such policy or detector.
    """
    from restyle.core.faces.detection import Detector, FacePolicy
    from restyle.pipeline.decoding.crops import FACE_CROP, CropSettings

    for option, value, known in (("faces", faces, FacePolicy), ("detector", detector, Detector)):
        if value not in get_args(known):
            raise SpecError(f"--{option} {value!r} is unknown; use {' or '.join(get_args(known))}")
    return CropSettings(True, faces, (FACE_CROP, FACE_CROP), detector=detector)  # type: ignore[arg-type]


def bench_alignment(
    source: str, settings: CropSettings, *, seconds: float, limit: int, repeats: int
) -> dict[str, Any]:
    """Align photographs both ways, print the tables, and return their content for JSON.

    The function that the pipeline's children run is called in this process, where one core's time
    can be told; what its bytes and crops cost on their way to a child and back is left out.

    Args:
        source: ``INPUT``.
        settings: of the crops, with the detector to measure.
        seconds: after which no further photograph is begun.
        limit: maximum number of photographs.
        repeats: as for :func:`restyle.pipeline.decoding.comparison.compare`.
    """
    from restyle.core.devices.allocator import keep_freed_memory
    from restyle.core.imaging.shared_pixels import hold_in_one_block
    from restyle.pipeline.decoding.comparison import agreement, compare, speeds, warm_up
    from restyle.pipeline.decoding.sandbox import KEPT

    keep_freed_memory(KEPT)
    hold_in_one_block()
    _one_thread()
    warm_up(settings)
    shown = console(soft_wrap=False)
    compared: list[Compared] = []
    ends = time.perf_counter() + seconds
    for name, data in _photographs(source, limit):
        if compared and time.perf_counter() > ends:
            break
        found = compare(name, data, settings, repeats)
        if found is not None:
            compared.append(found)
    if not compared:
        raise SpecError(f"--align {source}: no photograph could be decoded")
    rates, faces = speeds(compared), agreement(compared)
    title = (
        f"{settings.detector} against dlib on the whole, --faces {settings.faces}: {len(compared)} "
        "photographs, seconds of one core"
    )
    shown.print(title)
    shown.print(_rates(rates))
    shown.print(_stages(rates))
    for line in _lines(faces):
        shown.print(line)
    return {
        "title": title,
        "speeds": [{**dataclasses.asdict(rate), "ratio": rate.ratio} for rate in rates],
        "agreement": dataclasses.asdict(faces),
        "photographs": [_row(each) for each in compared],
    }


def _one_thread() -> None:
    """Let torch, where a detector uses it, compute in one thread."""
    import torch

    torch.set_num_threads(1)


def _photographs(source: str, limit: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of inputs, of every class of size in turn."""
    from restyle.pipeline.decoding.comparison import megapixel_class
    from restyle.pipeline.sources import SourceReader, iter_images
    from restyle.pipeline.sources.options import InputOptions

    reader = SourceReader(source)
    classes: dict[float, list[SourceImage]] = {}
    try:
        for image in itertools.chain.from_iterable(iter_images(source, "", InputOptions())):
            size = megapixel_class(_read(reader, image))
            if size is not None:
                classes.setdefault(size, []).append(image)
        rounds = itertools.zip_longest(*(spread(classes[size]) for size in sorted(classes)))
        taken = (image for images in rounds for image in images if image is not None)
        for image in itertools.islice(taken, limit):
            yield image.source, _read(reader, image)
    finally:
        reader.close()


def spread(images: list[SourceImage]) -> list[SourceImage]:
    """Inputs in an order whose every beginning is spread over the listing."""
    order = sorted(range(len(images)), key=lambda index: index * 0.618033988749895 % 1)
    return [images[index] for index in order]


def _read(reader: Any, image: SourceImage) -> bytes:
    try:
        data: bytes = reader.read(image)
    except RejectError:
        return b""
    return data


def _rates(rates: list[Speed]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    headings = (
        "Mpixel",
        "photos",
        "dlib/s",
        "this/s",
        "times",
        "quartiles",
        "decode/s",
        "reached",
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for rate in rates:
        low, middle, high = rate.ratios
        table.add_row(
            f"{rate.megapixels:g}",
            str(rate.photographs),
            f"{rate.exact:.2f}",
            f"{rate.fast:.2f}",
            f"{rate.ratio:.1f}",
            f"{low:.1f} {middle:.1f} {high:.1f}",
            f"{rate.decoding:.1f}",
            f"{rate.fast / rate.decoding:.0%}",
        )
    return table


def _stages(rates: list[Speed]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("Mpixel", "ms", *rates[0].stages):
        table.add_column(heading, justify="right", no_wrap=True)
    for rate in rates:
        for index, path in enumerate(("dlib", "this")):
            cells = [f"{both[index]:.1f}" for both in rate.stages.values()]
            table.add_row(f"{rate.megapixels:g}", path, *cells)
    return table


def _lines(faces: Agreement) -> Iterator[str]:
    share = faces.same / faces.exact if faces.exact else 1.0
    others = faces.fast - faces.same
    yield (
        f"faces: {faces.exact} by dlib, {faces.same} of them found ({share:.1%}), {others} others "
        f"({others / max(faces.fast, 1):.1%})"
    )
    yield (
        f"crops: {faces.close:.1%} within 1 grey level on average, {faces.near:.1%} within 3"
        + ("" if faces.worst is None else f"; worst {faces.worst[0]:.2f}, {faces.worst[1]}")
    )
    for what, names in (("missed in", faces.missed), ("others in", faces.added)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"{what}: {', '.join(names[:_SHOWN])}{more}"


def _row(each: Compared) -> dict[str, Any]:
    return {
        "name": each.name,
        "megapixels": each.megapixels,
        "same": each.same,
        "differences": each.differences,
        **{
            path: {"faces": len(run.crops), "seconds": run.seconds, "stages": run.stages}
            for path, run in (("exact", each.exact), ("this", each.fast))
        },
    }
