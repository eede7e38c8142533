"""Inversion of images: refinement, optimisation and tuning, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from restyle.core.devices.threads import in_groups, in_parallel, parallel_parts
from restyle.core.errors import SpecError
from restyle.core.imaging.preprocessing import Images, eight_bit, from_eight_bit, preprocess
from restyle.core.inference.batch_size import gradient_batch
from restyle.core.inference.model import Model
from restyle.core.inference.optimization import perceptual_network
from restyle.core.inference.refinement import Start
from restyle.core.inference.results import Inversion, Keep, Kept, Reconstructions
from restyle.core.inference.way import Origin, Way, walk


@dataclass(frozen=True, eq=False)
class _Batch:
    latents: Tensor
    image: Tensor

    def part(self, rows: slice) -> _Batch:
        return _Batch(self.latents[rows], self.image[rows])


def invert(
    model: Model,
    images: Images,
    steps: int = 5,
    *,
    reconstructions: Reconstructions = "last",
    latents: Literal["last", "all"] = "all",
    metrics: Sequence[str] = (),
    deltas: bool = False,
    heatmaps: bool = False,
    start: Start | Inversion | None = None,
    tolerance: float = 0.0,
    polish: int = 0,
    tuning: int = 0,
    seed: int = 0,
    batch_size: int | None = None,
    eight_bit: bool = False,
) -> Inversion:
    """Invert images: find latents whose images reconstruct them.

    Args:
        model: from :func:`restyle.load_model`.
        images: uint8 [B, H, W, 3], float [B, 3, H, W] in [-1, 1], or RGB pictures.
        steps: refinement steps; exactly one for a single-pass encoder.
        reconstructions: the steps whose images are kept.
        latents: the steps whose latents are kept.
        metrics: names to compute at every step, see :data:`restyle.core.metrics.registry.METRICS`.
        deltas: compute the mean change of the image in each step.
        heatmaps: keep the change of each pixel in each step.
        start: start from these values instead of the model's average: a :class:`Step`, or the last
            step of an :class:`Inversion`.
        tolerance: stop refining an image when a step's mean absolute change of its pixels, which
            are in [-1, 1], is below this; 0 never stops.
        polish: steps of optimisation from the encoder's latents, see
            :func:`restyle.core.inference.optimization.optimize`; 0 for none.
        tuning: steps of tuning of a generator for each image, see
            :func:`restyle.core.inference.tuning.tune`; 0 for none.
        seed: of tuning.
        batch_size: images per batch; :attr:`Model.batch_size` when None.
        eight_bit: convert reconstructions to uint8.

    Returns:
        An :class:`Inversion` on the CPU.

    Raises:
        SpecError: options contradict the model or the images.
        FatalError: a latent or a reconstruction is not finite.
    """
    if reconstructions not in ("none", "last", "all") or latents not in ("last", "all"):
        raise SpecError(
            f"reconstructions={reconstructions!r}, latents={latents!r}; "
            "use none (reconstructions only), last or all"
        )
    size = model.batch_size if batch_size is None else batch_size
    count = _count(images, size)
    origin = None if start is None else _start(start, count)
    keep = Keep(reconstructions, latents, tuple(metrics), deltas, heatmaps, eight_bit)
    way = Way(steps, tolerance, polish, tuning=tuning, seed=seed)
    return _inverted(model, images, way, keep, size, origin)


def optimize(
    model: Model,
    images: Images,
    iterations: int = 500,
    *,
    start: Origin = "average",
    steps: int | None = None,
    target_loss: float = 0.0,
    tuning: int = 0,
    seed: int = 0,
    noise: float = 0.0,
    reconstructions: Reconstructions = "last",
    latents: Literal["last", "all"] = "all",
    metrics: Sequence[str] = (),
    deltas: bool = False,
    batch_size: int | None = None,
    eight_bit: bool = False,
) -> Inversion:
    """Invert images by gradient descent on their latents, from the average or an encoder's.

    Args:
        model: from :func:`restyle.load_model`.
        images: as for :func:`invert`.
        iterations: steps of gradient descent; 0 to tune the generator around an encoder's latents.
        start: ``average``, or ``encoder`` for the last of its refinement steps.
        steps: refinement steps of the encoder; None for 5, or 1 of a single-pass encoder.
        target_loss: an image stops once its loss, l2 and 0.8 LPIPS, is not above this; 0 for none.
        tuning: steps of tuning of a generator for each image, see
            :func:`restyle.core.inference.tuning.tune`; 0 for none.
        seed: of the noise and of tuning.
        noise: deviation of the noise in the first latents, as a share of the latents' spread;
            0.05 is the StyleGAN2 projector's.
        reconstructions: as for :func:`invert`.
        latents: as for :func:`invert`.
        metrics: as for :func:`invert`.
        deltas: as for :func:`invert`.
        batch_size: as for :func:`invert`.
        eight_bit: as for :func:`invert`.

    Returns:
        An :class:`Inversion` on the CPU; optimisation and tuning are a step each.

    Raises:
        SpecError: options contradict the model or the images.
        FatalError: a latent, a reconstruction or a generator's weight is not finite.
    """
    if start == "average":
        if steps is not None:
            raise SpecError(f"steps is {steps}; an encoder takes them, so start must be 'encoder'")
        taken = 0
    else:
        taken = steps or (5 if model.iterative else 1)
    way = Way(taken, 0.0, iterations, target_loss, tuning, seed, noise)
    keep = Keep(reconstructions, latents, tuple(metrics), deltas, eight_bit=eight_bit)
    return _inverted(model, images, way, keep, batch_size or model.batch_size)


def _count(images: Images, size: int) -> int:
    """Number of images of a batch.

    Raises:
        SpecError: it is no batch, or empty, or ``size`` is not positive.
    """
    try:
        count = len(images)
    except TypeError as error:
        raise SpecError(f"images is a {type(images).__name__}, not a batch") from error
    if count == 0 or size < 1:
        raise SpecError(f"{count} images in batches of {size}; both must be at least one")
    return count


def _inverted(
    model: Model, images: Images, way: Way, keep: Keep, size: int, origin: _Batch | None = None
) -> Inversion:
    """Invert all images in batches."""
    count = _count(images, size)
    done: list[dict[str, Tensor]] = []
    begun: list[Kept] = []
    for first in range(0, count, size):
        rows = slice(first, first + size)
        part = None if origin is None else origin.part(rows)
        before = begun
        begun = _begin(model, images[rows], way, keep, part)
        # The GPU computes this batch while the results of the previous one are awaited.
        done += [kept.complete(way.rows) for kept in before]
    done += [kept.complete(way.rows) for kept in begun]
    # Concatenated outside of inference mode, so that the results support autograd.
    return keep.joined(done)


def begin_batch(
    model: Model,
    images: Images,
    way: Way,
    keep: Keep,
    stepped: Callable[[], None] | None = None,
) -> Callable[[], Inversion]:
    """Start to invert one batch, as :func:`invert`, without waiting for the GPU.

    Args:
        model: from :func:`restyle.load_model`.
        images: as for :func:`invert`.
        way: the steps; with a tolerance or a target the GPU is synchronised after every one.
        keep: the values to keep.
        stepped: called after each step of optimisation, as a sign of progress; by several threads.

    Returns:
        A function that waits for the result and returns it.
    """
    begun = _begin(model, images, way, keep, stepped=stepped)
    return lambda: keep.joined([kept.complete(way.rows) for kept in begun])


def _begin(
    model: Model,
    images: Images,
    way: Way,
    keep: Keep,
    start: _Batch | None = None,
    stepped: Callable[[], None] | None = None,
) -> list[Kept]:
    """Refine a batch in one or several parts and return their results."""
    # Cached values are computed here, before several threads would compute them.
    model.metrics(keep.metrics)
    if start is None:
        _ = model.average_image

    def refined(rows: slice, size: int = 0) -> Kept:
        x = _encoder_input(model, images[rows])
        part = None if start is None else start.part(rows)
        count = len(x)
        if count < size:
            filled = torch.arange(size).clamp(max=count - 1)
            x = x[filled]
            part = None if part is None else _Batch(part.latents[filled], part.image[filled])
        return keep.collect(walk(model, x, way, part, stepped, count), model, x, count)

    on_cpu, side = model.device.type == "cpu", model.generator.config.size
    if on_cpu and way.optimizes:
        perceptual_network(model.device)
        model.prepare_gradients()
        size = gradient_batch(model.generator.config, model.device)
        # A group that is filled up has the same rounding whatever is in it.
        return in_groups(lambda rows: refined(rows, size), len(images), size, side)
    parts = parallel_parts(len(images), side) if on_cpu else 1
    return in_parallel(refined, len(images), parts)


def _encoder_input(model: Model, images: Images) -> Tensor:
    """The encoder's input [B, 3, h, w] on the model's device."""
    pixels = None if model.device.type == "cpu" else eight_bit(images, model.config.image_size)
    if pixels is None:
        return model.transfer.upload(preprocess(images, model.config.image_size))()
    # Bytes are a quarter of the traffic; the GPU scales them.
    return from_eight_bit(model.transfer.upload(pixels)())


def _start(start: Start | Inversion, count: int) -> _Batch:
    latents = start.latents[:, -1] if isinstance(start, Inversion) else start.latents
    batch = _Batch(latents, start.image)
    if len(batch.latents) != count or len(batch.image) != count:
        raise SpecError(
            f"the start holds {len(batch.latents)} latents and {len(batch.image)} images "
            f"for {count} images"
        )
    return batch
