"""Outputs of any size, written through the project's own writers, without computing anything."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.errors import RejectReason
from restyle.pipeline.accounting.run_record import Asked, Counts, RunRecord, Timings, write_run
from restyle.pipeline.inversion.aligner import AlignedUnit, Crop
from restyle.pipeline.inversion.operation import INVERSION
from restyle.pipeline.inversion.rows import Batch, encoded
from restyle.pipeline.ledger.commit import write_unit
from restyle.pipeline.ledger.manifest import Origin, Unit, new_unit, write_plan
from restyle.pipeline.ledger.rejects import Reject
from restyle.pipeline.ledger.settings import Reconstructions, ResolvedSettings, SaveSteps
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.storage.filesystem import Storage, open_storage

METRICS = ("l2", "lpips", "id_similarity")
UNIT = 256
HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "\"quotes' & ampersands.jpg",
    "two\nlines\tand a tab.jpg",
    "right\u202eto left.jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "x" * 251 + ".jpg",
    "</script><img src=x onerror=alert(1)>.jpg",
    "not \\xff utf-8.jpg",
    "=cmd|' /C calc'!A0.jpg",
    "'; drop view latents; --.jpg",
]


@dataclass(frozen=True)
class Made:
    """What a fabricated output is to hold.

    Attributes:
        faces: number of inputs with a face.
        rejects: number of inputs without.
        shape: of a latent.
        steps: of the refinement.
        reconstructions: whose pictures are kept.
        save_steps: what ``steps/`` holds.
        side: of a picture.
        unit: inputs in a unit.
        names: sources of the first inputs; made up for the rest.
        model: that the settings name.
        fingerprint: of the model.
        seed: another one gives another run over the same inputs.
    """

    faces: int = 20
    rejects: int = 0
    shape: tuple[int, int] = (10, 8)
    steps: int = 2
    reconstructions: Reconstructions = "all"
    save_steps: SaveSteps = "metrics"
    side: int = 8
    unit: int = UNIT
    names: Sequence[str] = ()
    model: str = "faces64:restyle-psp"
    fingerprint: str = "ab" * 32
    seed: int = 0

    @property
    def settings(self) -> ResolvedSettings:
        return ResolvedSettings(
            model=self.model,
            model_fingerprint=self.fingerprint,
            steps=self.steps,
            align=True,
            faces="largest",
            landmarks="default",
            save_steps=self.save_steps,
            reconstructions=self.reconstructions,
            metrics=METRICS,
            dtype="fp32",
        )


def source(made: Made, number: int) -> str:
    return made.names[number] if number < len(made.names) else f"/photos/{number:06d}.jpg"


def image(made: Made, number: int, revision: int = 1) -> SourceImage:
    name = source(made, number)
    identity = image_id(f"{number}/{name}".encode())
    return SourceImage(identity, name, name.encode(), 1, f"v{revision}", revision=revision)


def fabricate(out: Path | str, made: Made) -> Storage:
    """Write an output that :func:`restyle.pipeline.accounting.verify.verify` finds clean."""
    storage = open_storage(str(out))
    INVERSION.write_settings(storage, made.settings)
    inputs = [image(made, number) for number in range(made.faces + made.rejects)]
    write(storage, made, inputs)
    write_run(storage, record(made))
    return storage


def redo(storage: Storage, made: Made, number: int, revision: int, *, rejected: bool) -> None:
    """Do an input again, as when it has changed."""
    unit = new_unit(10_000 + revision, [image(made, number, revision)])
    write_plan(storage, [unit], Origin("/photos"))
    finish(storage, made, unit, {unit.images[0].image_id} if rejected else set())


def write(storage: Storage, made: Made, inputs: Sequence[SourceImage]) -> None:
    units = [
        new_unit(at // made.unit, inputs[at : at + made.unit])
        for at in range(0, len(inputs), made.unit)
    ]
    if units:
        write_plan(storage, units, Origin("/photos"))
    rejected = {each.image_id for each in inputs[made.faces :]}
    for unit in units:
        finish(storage, made, unit, rejected)


def finish(storage: Storage, made: Made, unit: Unit, rejected: set[str]) -> None:
    """Write the rows of a unit and commit it."""
    seed = [made.seed, int(unit.name[:6])]
    generator = np.random.default_rng(seed)
    kept = [each for each in unit.images if each.image_id not in rejected]
    blank = np.zeros((1, 1, 3), np.uint8)
    quad = np.array([[0, 0], [0, 9], [9, 9], [9, 0]], np.float64)
    crops = [Crop(i.image_id, 0, i.source, blank, quad, i.revision) for i in kept]
    rejects = [
        Reject(
            each.image_id,
            each.source,
            "decode",
            RejectReason.TRUNCATED if index % 2 else RejectReason.NO_FACE,
            f"cannot read {each.source}",
            each.revision,
        )
        for index, each in enumerate(each for each in unit.images if each.image_id in rejected)
    ]
    aligned = AlignedUnit(unit.name, len(unit.images), crops, rejects, 0.1)
    batches = [_batch(made, crops, generator)] if crops else []
    inverted = encoded(aligned, batches, made.settings, made.shape, {"invert": 0.1})
    write_unit(storage, inverted, made.settings.fingerprint)


def _batch(made: Made, crops: Sequence[Crop], generator: np.random.Generator) -> Batch:
    count = len(crops)
    fall = generator.uniform(0.2, 1, (count, 1)) * 0.6 ** np.arange(made.steps)
    metrics = {
        "l2": 0.06 * fall,
        "lpips": 0.3 * fall,
        "id_similarity": 1 - 0.5 * fall,
    }
    kept = {"all": range(made.steps + 1), "last": (0, made.steps), "none": ()}
    colours = generator.integers(0, 8, count)
    latents = generator.standard_normal(
        (count, made.steps if made.save_steps == "latents" else 1, *made.shape), np.float32
    )
    return Batch(
        crops=crops,
        steps=[made.steps] * count,
        latents=latents,
        metrics={name: values.astype(np.float32) for name, values in metrics.items()},
        deltas=(0.3 * fall).astype(np.float32),
        images=[
            [(step, picture(int(colour), step, made.side)) for step in kept[made.reconstructions]]
            for colour in colours
        ],
    )


@functools.cache
def picture(colour: int, step: int, side: int) -> bytes:
    """A PNG that depends on all three."""
    pixels: npt.NDArray[np.float64] = np.random.default_rng(colour).uniform(60, 200, (4, 4, 3))
    pixels = pixels.repeat(-(-side // 4), 0).repeat(-(-side // 4), 1)[:side, :side]
    off = 40 // step if step else 0
    buffer = io.BytesIO()
    Image.fromarray((pixels + off).clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def record(made: Made) -> RunRecord:
    images = made.faces + made.rejects
    return RunRecord(
        state="complete",
        asked=Asked(
            source="/photos",
            out="/out",
            limit=None,
            device="auto",
            batch_size=None,
            max_reject_rate=0.5,
        ),
        settings=made.settings.model_dump(mode="json"),
        fingerprint=made.settings.fingerprint,
        model={"name": "faces64", "spec": made.model},
        device="cpu",
        dtype="fp32",
        dtype_reason="fp32: no bf16 in this processor",
        steps=made.steps,
        reconstructions=made.reconstructions,
        metrics=list(METRICS),
        counts=Counts(
            units=-(-images // made.unit),
            pending_units=0,
            images=images,
            pending_images=0,
            faces=made.faces,
            rejected=made.rejects,
            rejects={},
        ),
        timings=Timings(
            started="2026-11-22T20:14:45+00:00",
            finished="2026-11-22T20:15:00+00:00",
            seconds=14.6,
            images=images,
            images_per_second=3.24,
        ),
        versions={"restyle-pipeline": "0.1.0"},
        machine={"cores": 2},
    )
