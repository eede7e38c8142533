"""The inversion stage: the crops of a unit become dataset files in memory, ready to be written."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pipeline.aligner import AlignedUnit, Crop
from pipeline.datasets import encode
from pipeline.inverted import InvertedUnit
from pipeline.rows import IMAGE_FORMAT, Batch, metric_sums, tables
from pipeline.settings import ResolvedSettings
from restyle_core.inversion import Inversion, invert
from restyle_core.model import Model, load_model

# Faces per batch when the user does not say: about what fits beside the model in memory.
_BATCH_PIXELS = 4 * 1024 * 1024
_MAX_BATCH = 32


class Inverter:
    """Holds the model and inverts one unit after another.

    Several threads may call it: one computes while the others encode.

    Args:
        spec: what :func:`restyle_core.load_model` takes.
        settings: of the run.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: faces per batch, None for what suits the model.
        threads: of the processor, for computing and for encoding.
    """

    def __init__(
        self,
        spec: str,
        settings: ResolvedSettings,
        *,
        device: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._threads = threads or os.cpu_count() or 1
        torch.set_num_threads(self._threads)
        self.model: Model = load_model(spec, dtype=settings.dtype, device=device)
        self._settings = settings
        self._batch_size = batch_size or _default_batch_size(self.model)
        self._computing = threading.Lock()
        self._encoders = ThreadPoolExecutor(self._threads, thread_name_prefix="encode")

    def __call__(self, aligned: AlignedUnit) -> InvertedUnit:
        """Invert one unit; its rows come in the order of its inputs."""
        started = time.perf_counter()
        with self._computing:
            torch.set_num_threads(self._threads)
            waited = time.perf_counter()
            batches = [self._batch(crops) for crops in _chunks(aligned.crops, self._batch_size)]
            computed = time.perf_counter()
        shape = (self.model.n_styles, self.model.style_dim)
        files = {
            dataset: (encode(table), table.num_rows)
            for dataset, table in tables(aligned, batches, self._settings, shape).items()
        }
        reasons = [str(reject.reason) for reject in aligned.rejects]
        return InvertedUnit(
            unit=aligned.unit,
            images=aligned.images,
            faces=len(aligned.crops),
            rejects={reason: reasons.count(reason) for reason in sorted(set(reasons))},
            files=files,
            metrics=metric_sums(batches),
            seconds={
                "align": aligned.seconds,
                "invert": computed - waited,
                "encode": time.perf_counter() - computed,
                "wait": waited - started,
            },
        )

    def _batch(self, crops: Sequence[Crop]) -> Batch:
        settings = self._settings
        pixels = np.stack([crop.pixels for crop in crops])
        result = invert(
            self.model,
            pixels,
            steps=settings.steps,
            reconstructions=settings.reconstructions,
            latents="all" if settings.save_steps == "latents" else "last",
            metrics=settings.metrics,
            deltas=settings.save_steps != "none",
            batch_size=len(crops),
        )
        return Batch(
            crops=crops,
            latents=result.latents.float().cpu().numpy(),
            metrics={name: values.float().cpu().numpy() for name, values in result.metrics.items()},
            deltas=None if result.deltas is None else result.deltas.float().cpu().numpy(),
            images=self._images(pixels, result),
        )

    def _images(
        self, pixels: npt.NDArray[np.uint8], result: Inversion
    ) -> list[list[tuple[int, bytes]]]:
        """Encoded images of each face with their steps; step 0 is what the encoder was given."""
        if result.reconstructions is None:
            return [[] for _ in pixels]
        kept, last = result.reconstructions, self._settings.steps
        steps = [0, *range(last - kept.shape[1] + 1, last + 1)]
        inputs = _to_bytes(self.model.preprocess(pixels))
        stacks = [inputs, *(_to_bytes(kept[:, index]) for index in range(kept.shape[1]))]
        encoded = [list(self._encoders.map(_encode_image, stack)) for stack in stacks]
        return [list(zip(steps, images, strict=True)) for images in zip(*encoded, strict=True)]


def _default_batch_size(model: Model) -> int:
    side: int = model.generator.config.size
    return max(1, min(_MAX_BATCH, _BATCH_PIXELS // (side * side)))


def _chunks(crops: Sequence[Crop], size: int) -> Iterator[Sequence[Crop]]:
    return (crops[start : start + size] for start in range(0, len(crops), size))


def _to_bytes(images: Tensor) -> npt.NDArray[np.uint8]:
    """[B, 3, h, w] in [-1, 1] to [B, h, w, 3] uint8, as the published code saves images."""
    scaled = images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    array: npt.NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return array


def _encode_image(pixels: npt.NDArray[np.uint8]) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, IMAGE_FORMAT)
    return target.getvalue()
