"""Inversion of units: from crops to encoded dataset files."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from restyle.core.errors import FatalError
from restyle.core.imaging.encoding import encode_image
from restyle.core.imaging.preprocessing import preprocess, to_bytes
from restyle.core.inference.bootstrapping import check_compatible, invert_bootstrapped
from restyle.core.inference.inversion import begin_batch
from restyle.core.inference.model import Model, load_model
from restyle.core.inference.results import Inversion, Keep
from restyle.core.inference.tuning import encoded as encoded_weights
from restyle.core.inference.tuning import of_face
from restyle.core.inference.way import Way
from restyle.pipeline.accounting.machine import Use, WorkerInfo
from restyle.pipeline.inversion.aligner import AlignedUnit, Crop
from restyle.pipeline.inversion.micro_batches import Made, MicroBatches
from restyle.pipeline.inversion.rows import Batch, FloatArray, encoded, image_format
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.records import STARVED
from restyle.pipeline.ledger.settings import ResolvedSettings

T = TypeVar("T")

Pixels = npt.NDArray[np.uint8]


class Inverter:
    """Owns the model and inverts units.

    Thread-safe: units of several threads share batches, and are encoded while others are computed.

    Args:
        spec: as for :func:`restyle.core.load_model`.
        settings: of the run.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: faces per batch; the model's default when None.
        threads: number of CPU threads for computing and for encoding.
        computed: called after each batch, as a sign of progress.
        bootstrap: model of the first step, like ``spec``; the same model when None.
        identity_weights: file of the user's face recogniser; the embedded one when None.

    Raises:
        SpecError: the two models are incompatible.
    """

    def __init__(
        self,
        spec: str,
        settings: ResolvedSettings,
        *,
        device: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
        computed: Callable[[], None] | None = None,
        bootstrap: str | None = None,
        identity_weights: str | None = None,
    ) -> None:
        self._threads = threads or os.cpu_count() or 1
        # Models are loaded in a thread that ends, because OpenMP counts the threads of all living
        # threads that have computed, and with more threads than cores lets them sleep between
        # operators.
        with ThreadPoolExecutor(1) as loader:
            self.model: Model = loader.submit(self._load, spec, settings, device).result()
            self._first: Model | None = None
            if bootstrap is not None:
                self._first = loader.submit(self._load, bootstrap, settings, device).result()
                check_compatible(self._first, self.model)
        if identity_weights is not None:
            self.model.identity_weights = Path(identity_weights)
        self._settings = settings
        self.batch_size = batch_size or self.model.batch_size
        self._computed = computed or (lambda: None)
        self._defers = self.model.device.type == "cuda"
        self._use = Use()
        self._batches = MicroBatches(self._invert, self.batch_size)
        self._encoders = ThreadPoolExecutor(self._threads, thread_name_prefix="encode")

    def _load(self, spec: str, settings: ResolvedSettings, device: str) -> Model:
        torch.set_num_threads(self._threads)
        return load_model(spec, dtype=settings.dtype, device=device)

    @property
    def worker_info(self) -> WorkerInfo:
        """Where and how it computes by now."""
        return WorkerInfo.of(self.model, self.batch_size, self._use.so_far(self.model.device))

    def __call__(self, aligned: AlignedUnit) -> EncodedUnit:
        """Invert one unit; rows have the order of its inputs.

        Raises:
            FatalError: a batch does not fit into memory.
        """
        started = time.perf_counter()
        faces: list[_Face] = []
        images: list[list[tuple[int, bytes]]] = []
        for face in self._batches(aligned.crops):
            faces.append(face)
            images.append(face.images.result())
        computed = time.perf_counter()
        computing = sum(face.seconds for face in faces)
        starved = self._batches.take_starved()
        self._use.add(len(faces), computing, starved)
        unit = encoded(
            aligned,
            [_batch(aligned.crops, faces, images)] if faces else [],
            self._settings,
            (self.model.n_styles, self.model.style_dim),
            {
                "invert": computing,
                "wait": max(0.0, computed - started - computing),
                STARVED: starved,
            },
        )
        unit.seconds["encode"] = time.perf_counter() - computed
        return unit

    def close(self) -> None:
        """End the threads."""
        self._batches.close()
        self._encoders.shutdown()

    def _invert(self, crops: Sequence[Crop]) -> Made[_Face]:
        """Invert a batch, in the computing thread; on a GPU only launch it."""
        started = time.perf_counter()
        # The setting applies only to the calling thread.
        torch.set_num_threads(self._threads)
        pixels = np.stack([crop.pixels for crop in crops])
        places = max(self.batch_size, len(crops))
        result = _fitting(lambda: self._begun(pixels))
        if result is None:
            return self._parts(crops)
        begun = time.perf_counter() - started

        def finish() -> Sequence[_Face]:
            started = time.perf_counter() - begun
            inversion = _fitting(result)
            if inversion is None:
                return self._parts(crops)
            faces = list(self._faces(pixels, inversion, time.perf_counter() - started))
            if not self._defers:
                # Encoding during the next batch would delay its threads.
                wait([face.images for face in faces])
            self._use.add_batch(places)
            self._computed()
            return faces

        return finish if self._defers else finish()

    def _parts(self, crops: Sequence[Crop]) -> list[_Face]:
        """Invert a batch that exceeds the GPU's memory in two parts.

        Raises:
            FatalError: a single face exceeds it.
        """
        if len(crops) == 1:
            raise FatalError(f"one face does not fit into the free memory of {self.model.device}")
        # Later batches have this size too.
        self.batch_size = self._batches.size = (len(crops) + 1) // 2
        torch.cuda.empty_cache()
        faces: list[_Face] = []
        for part in (crops[: self.batch_size], crops[self.batch_size :]):
            made = self._invert(part)
            faces += made() if callable(made) else made
        return faces

    def _begun(self, pixels: Pixels) -> Callable[[], Inversion]:
        settings = self._settings
        has_best = settings.best_step is not None
        keeps_images = settings.reconstructions != "none"
        keep = Keep(
            # The best step is known once all have been measured.
            reconstructions="all" if has_best and keeps_images else settings.reconstructions,
            latents="all" if has_best or settings.save_steps == "latents" else "last",
            metrics=settings.metrics,
            deltas=settings.save_steps != "none",
            eight_bit=True,
            seconds=not self._defers and self._first is None,
        )
        way = way_of(settings)
        if self._first is None:
            return begin_batch(self.model, pixels, way, keep, self._computed)
        tolerance = settings.tolerance or 0.0
        kept = dataclasses.asdict(keep)
        del kept["seconds"]
        options = {**kept, "tolerance": tolerance, "batch_size": len(pixels)}
        inversion = invert_bootstrapped(self._first, self.model, pixels, settings.steps, **options)
        return lambda: inversion

    def _faces(self, pixels: Pixels, result: Inversion, seconds: float) -> Iterator[_Face]:
        latents = result.latents.float().cpu().numpy()
        metrics = {name: values.float().cpu().numpy() for name, values in result.metrics.items()}
        deltas = None if result.deltas is None else result.deltas.float().cpu().numpy()
        stacks = self._images(pixels, result)
        settings = self._settings
        best = None if settings.best_step is None else 1 + result.best(settings.best_step)
        of_steps = _wall_seconds(result, seconds)
        for index, taken in enumerate(result.steps.tolist()):
            chosen = None if best is None else int(best[index])
            images = [
                (step, stacks[place][index])
                for place, step in enumerate(self._kept(taken, chosen))
                if step is not None
            ]
            yield _Face(
                steps=taken,
                latents=latents[index],
                metrics={name: values[index] for name, values in metrics.items()},
                deltas=None if deltas is None else deltas[index],
                images=self._encoders.submit(self._encode, images) if images else _NO_IMAGES,
                seconds=seconds / len(pixels),
                step_seconds=None if of_steps is None else of_steps[index],
                best=chosen,
                iterations=None if result.iterations is None else int(result.iterations[index]),
                weights=(
                    encoded_weights(of_face(result.weights, index)) if result.weights else None
                ),
            )

    def _kept(self, taken: int, best: int | None) -> list[int | None]:
        """The step of each stack of images, in their order; None for one that is not kept."""
        settings = self._settings
        if settings.reconstructions == "none":
            return []
        if settings.reconstructions == "all":
            return list(range(taken + 1))
        if best is not None:
            return [step if step in (0, best) else None for step in range(taken + 1)]
        return [0, *(settings.ends if settings.tolerance is None else (taken,))]

    def _images(self, pixels: Pixels, result: Inversion) -> list[Pixels]:
        """The encoder's inputs and the kept reconstructions, [B, h, w, 3] each."""
        if result.reconstructions is None:
            return []
        size, inputs = self.model.config.image_size, pixels
        if pixels.shape[1:3] != size:
            inputs = to_bytes(preprocess(pixels, size)).permute(0, 2, 3, 1).numpy()
        made = result.reconstructions.unbind(1)
        return [inputs, *(stack.permute(0, 2, 3, 1).numpy() for stack in made)]

    def _encode(self, images: Sequence[tuple[int, Pixels]]) -> list[tuple[int, bytes]]:
        return [
            (step, encode_image(pixels, image_format(self._settings, step)))
            for step, pixels in images
        ]


def way_of(settings: ResolvedSettings) -> Way:
    """The steps of an inversion with these settings."""
    return Way(
        settings.steps,
        settings.tolerance or 0.0,
        settings.optimized,
        settings.target_loss or 0.0,
        settings.pivotal or 0,
        settings.seed or 0,
        settings.noise or 0.0,
    )


def _fitting(make: Callable[[], T]) -> T | None:
    """Call a function; None if it exceeds the GPU's memory."""
    try:
        return make()
    except torch.OutOfMemoryError:
        # The exception refers to tensors, which are released when this function returns.
        return None


@dataclass(frozen=True, eq=False)
class _Face:
    """Results of one face with pending encoded images; fields as in :class:`Batch`."""

    steps: int
    latents: FloatArray
    metrics: dict[str, FloatArray]
    deltas: FloatArray | None
    images: Future[list[tuple[int, bytes]]]
    seconds: float
    step_seconds: FloatArray | None
    best: int | None
    iterations: int | None
    weights: bytes | None


def _wall_seconds(result: Inversion, wall: float) -> FloatArray | None:
    """Each face's share [B, steps] of the wall time of a batch, without metrics and the like.

    The seconds of the result are those of several threads at once; their shares are those of the
    wall time.
    """
    if result.seconds is None or result.measuring is None:
        return None
    busy = float(result.seconds.sum() + result.measuring.sum())
    return (result.seconds * (wall / busy if busy else 0.0)).numpy()


_NO_IMAGES: Future[list[tuple[int, bytes]]] = Future()
_NO_IMAGES.set_result([])


def _batch(
    crops: Sequence[Crop],
    faces: Sequence[_Face],
    images: Sequence[Sequence[tuple[int, bytes]]],
) -> Batch:
    return Batch(
        crops=crops,
        steps=[face.steps for face in faces],
        latents=np.stack([face.latents for face in faces]),
        metrics={
            name: np.stack([face.metrics[name] for face in faces]) for name in faces[0].metrics
        },
        deltas=_stacked([face.deltas for face in faces]),
        images=images,
        best=[face.best for face in faces if face.best is not None],
        iterations=[face.iterations for face in faces if face.iterations is not None],
        weights=[face.weights for face in faces if face.weights is not None],
        step_seconds=_stacked([face.step_seconds for face in faces]),
    )


def _stacked(values: Sequence[FloatArray | None]) -> FloatArray | None:
    """Values of all faces [N, ...]; None unless every face has one."""
    found = [each for each in values if each is not None]
    return np.stack(found) if found and len(found) == len(values) else None
