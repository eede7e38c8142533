"""Images to latents: refinement in batches, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from restyle.core.devices.threads import lanes, side_by_side
from restyle.core.devices.transfer import Arrival, Staging
from restyle.core.errors import FatalError, SpecError
from restyle.core.imaging.preprocessing import (
    Images,
    eight_bit,
    from_eight_bit,
    preprocess,
    to_bytes,
)
from restyle.core.inference.model import Model
from restyle.core.inference.refinement import Start, Step, refine

Reconstructions = Literal["none", "last", "all"]


@dataclass(frozen=True, eq=False)
class Inversion:
    """Result of :func:`invert`; what was not asked for is None or empty.

    An image that stopped early (``tolerance``) keeps its last values in all steps that it did not
    take, and its change there is zero.

    Attributes:
        latents: [B, steps, n_styles, style_dim] float32, or [B, 1, ...] for the last step only.
        reconstructions: [B, steps or 1, 3, H, W] float32 at the generator's size, or uint8.
        metrics: [B, steps] float32 for each metric's name, at the encoder's size.
        deltas: [B, steps] float32, mean absolute change against the image before.
        heatmaps: [B, steps, h, w] float32, the change of each pixel at the encoder's size.
        steps: [B] int64, how many each image took; empty where nobody counted.
    """

    latents: Tensor
    reconstructions: Tensor | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)
    deltas: Tensor | None = None
    heatmaps: Tensor | None = None
    steps: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    @property
    def image(self) -> Tensor:
        """[B, 3, H, W]: the last reconstructions.

        Raises:
            SpecError: they were not kept.
        """
        if self.reconstructions is None:
            raise SpecError("this inversion kept no images; ask for reconstructions='last'")
        return self.reconstructions[:, -1]


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
    batch_size: int | None = None,
    eight_bit: bool = False,
) -> Inversion:
    """Invert images: find the latents whose images they are.

    Args:
        model: from :func:`restyle.load_model`.
        images: uint8 [B, H, W, 3], float [B, 3, H, W] in [-1, 1], or RGB pictures.
        steps: of refinement; exactly one for a single-pass encoder.
        reconstructions: which steps' images to keep.
        latents: which steps' latents to keep.
        metrics: names to compute at every step, see :data:`restyle.core.metrics.registry.METRICS`.
        deltas: compute how much each step changed the image.
        heatmaps: keep where each step changed the image.
        start: go on from these instead of the model's average: a :class:`Step`, or an
            :class:`Inversion`, whose last step counts.
        tolerance: stop refining an image once a step changes its pixels by less than this on
            average; images are in [-1, 1], and 0 never stops.
        batch_size: images in work at once; what suits the model and its device when None.
        eight_bit: keep reconstructions in uint8, as they are saved.

    Returns:
        An :class:`Inversion` on the CPU.

    Raises:
        SpecError: options that contradict the model or the images.
        FatalError: a latent or a reconstruction is not finite.
    """
    if reconstructions not in ("none", "last", "all") or latents not in ("last", "all"):
        raise SpecError(
            f"reconstructions={reconstructions!r}, latents={latents!r}; "
            "use none (reconstructions only), last or all"
        )
    try:
        count = len(images)
    except TypeError as error:
        raise SpecError(f"images is a {type(images).__name__}, not a batch") from error
    size = model.batch_size if batch_size is None else batch_size
    if count == 0 or size < 1:
        raise SpecError(f"{count} images in batches of {size}; both must be at least one")
    origin = None if start is None else _start(start, count)
    keep = Keep(reconstructions, latents, tuple(metrics), deltas, heatmaps, eight_bit)
    done: list[dict[str, Tensor]] = []
    begun: list[_Kept] = []
    for first in range(0, count, size):
        rows = slice(first, first + size)
        part = None if origin is None else origin.part(rows)
        before = begun
        begun = _begin(model, images[rows], steps, keep, tolerance, part)
        # A GPU has this batch to do while the results of the one before are waited for.
        done += [kept.complete(steps) for kept in before]
    done += [kept.complete(steps) for kept in begun]
    # Stacked outside of inference mode, so that results may take part in anything later.
    return keep.joined(done)


def begin_batch(
    model: Model, images: Images, steps: int, keep: Keep, tolerance: float = 0.0
) -> Callable[[], Inversion]:
    """Invert images in one batch, as :func:`invert`, without waiting for a GPU to be done with it.

    Args:
        model: from :func:`restyle.load_model`.
        images: as for :func:`invert`.
        steps: of refinement.
        keep: what of them.
        tolerance: as for :func:`invert`; with one, a GPU is waited for after every step.

    Returns:
        Waits for the result. On a CPU it is there.
    """
    begun = _begin(model, images, steps, keep, tolerance)
    return lambda: keep.joined([kept.complete(steps) for kept in begun])


def _begin(
    model: Model,
    images: Images,
    steps: int,
    keep: Keep,
    tolerance: float,
    start: _Batch | None = None,
) -> list[_Kept]:
    """Refine a batch; what is kept of its images, one part after another."""
    # What all parts need is made once, before there are several that would make it.
    model.metrics(keep.metrics)
    if start is None:
        _ = model.average_image

    def refined(rows: slice) -> _Kept:
        x = _brought(model, images[rows])
        part = None if start is None else start.part(rows)
        return keep.collect(refine(model, x, steps, part, tolerance=tolerance), model, x)

    on_cpu = model.device.type == "cpu"
    parts = lanes(len(images), model.generator.config.size) if on_cpu else 1
    return side_by_side(refined, len(images), parts)


def _brought(model: Model, images: Images) -> Tensor:
    """The encoder's input, on the model's device."""
    pixels = None if model.device.type == "cpu" else eight_bit(images, model.config.image_size)
    if pixels is None:
        return model.staging.upload(preprocess(images, model.config.image_size))()
    # A quarter of the bytes, and scaling is the GPU's work.
    return from_eight_bit(model.staging.upload(pixels)())


def _start(start: Start | Inversion, count: int) -> _Batch:
    latents = start.latents[:, -1] if isinstance(start, Inversion) else start.latents
    batch = _Batch(latents, start.image)
    if len(batch.latents) != count or len(batch.image) != count:
        raise SpecError(
            f"the start holds {len(batch.latents)} latents and {len(batch.image)} images "
            f"for {count} images"
        )
    return batch


@dataclass(frozen=True)
class Keep:
    """Which parts of each step an inversion keeps; fields as the arguments of :func:`invert`."""

    reconstructions: Reconstructions = "last"
    latents: Literal["last", "all"] = "all"
    metrics: tuple[str, ...] = ()
    deltas: bool = False
    heatmaps: bool = False
    eight_bit: bool = False

    def collect(self, made: Iterator[Step], model: Model, x: Tensor) -> _Kept:
        """Everything to keep of a batch, on its way to the CPU.

        Args:
            made: its steps.
            model: for the metrics.
            x: [B, 3, h, w], the images.
        """
        kept = _Kept(len(x), model.staging)
        measure = self._measure(model, x)
        for step in made:
            if len(step.rows) < len(kept.rows):
                measure = self._measure(model, x[step.rows.to(x.device)])
            kept.rows = step.rows
            for name, value in measure(step.pooled).items():
                kept.add(name, value)
            if self.latents == "all":
                kept.add("latents", step.latents)
            if self.reconstructions == "all":
                kept.add("reconstructions", self._image(step.image))
            if self.deltas or self.heatmaps:
                change = step.change()
                if self.heatmaps:
                    kept.add("heatmaps", change, still=0.0)
                if self.deltas:
                    kept.add("deltas", change.mean(dim=(1, 2)), still=0.0)
            if step.final.any():
                kept.finish("steps", torch.full((len(step.rows),), step.index), step.final)
                kept.finish("finite", _finite(step), step.final)
                if self.latents == "last":
                    kept.finish("latents", step.latents, step.final)
                if self.reconstructions == "last":
                    kept.finish("reconstructions", self._image(step.image), step.final)
            # Nothing holds on to this step while the next one is made.
            del step
        return kept

    def _image(self, image: Tensor) -> Tensor:
        return to_bytes(image) if self.eight_bit else image

    def _measure(self, model: Model, x: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
        if not self.metrics:
            return lambda _: {}
        return model.metrics(self.metrics).against_there(x)

    def joined(self, parts: Sequence[dict[str, Tensor]]) -> Inversion:
        """Put batches together, each a tensor [B, steps or 1, ...] for every name.

        Raises:
            FatalError: a latent or a reconstruction is not finite.
        """
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        finite = joined["finite"]
        if not finite.all():
            # Eight bits would show such a picture as a black one.
            raise FatalError(
                f"{int((~finite).sum())} of {len(finite)} images came out as values that are not "
                "finite: the model's weights or its precision are at fault; try dtype fp32 or "
                "another checkpoint"
            )
        return Inversion(
            steps=joined["steps"][:, 0],
            latents=joined["latents"],
            reconstructions=joined.get("reconstructions"),
            metrics={name: joined[name] for name in self.metrics},
            deltas=joined.get("deltas"),
            heatmaps=joined.get("heatmaps"),
        )


def _finite(step: Step) -> Tensor:
    """[n] bool: whether an image's latent and reconstruction are numbers all over."""
    latents, images = (part.isfinite().flatten(1).all(1) for part in (step.latents, step.pooled))
    return latents & images


class _Kept:
    """What is kept of a batch: values of all images or of some, on their way to the CPU.

    Args:
        count: images in the batch.
        staging: brings them.

    Attributes:
        rows: which images the values to come belong to.
    """

    def __init__(self, count: int, staging: Staging) -> None:
        self._count = count
        self._staging = staging
        self._series: dict[str, list[tuple[Tensor, Arrival]]] = {}
        self._last: dict[str, list[tuple[Tensor, Arrival]]] = {}
        self._still: dict[str, float | None] = {}
        self.rows = torch.arange(count)

    def add(self, name: str, value: Tensor, *, still: float | None = None) -> None:
        """Append a step's values.

        Args:
            name: of the series.
            value: [n, ...], of :attr:`rows`.
            still: of images that have stopped; None for what they had before.
        """
        self._still[name] = still
        self._series.setdefault(name, []).append((self.rows, self._staging.download(value)))

    def finish(self, name: str, value: Tensor, final: Tensor) -> None:
        """Set the only values of images for which no step follows.

        Args:
            name: of the series.
            value: [n, ...], of :attr:`rows`.
            final: [n] bool, for which of them.
        """
        chosen = value if final.all() else value[final.to(value.device)]
        coming = self._staging.download(chosen)
        self._last.setdefault(name, []).append((self.rows[final], coming))

    def complete(self, steps: int) -> dict[str, Tensor]:
        """[B, steps or 1, ...] for each name, on the CPU.

        Args:
            steps: to which series grow, also when every image has stopped before.
        """
        return {
            **{name: torch.stack(self._grown(name, steps), dim=1) for name in self._series},
            **{name: self._whole(arrivals)[:, None] for name, arrivals in self._last.items()},
        }

    def _grown(self, name: str, steps: int) -> list[Tensor]:
        made: list[Tensor] = []
        for rows, arrival in self._series[name]:
            value = arrival()
            if len(rows) < self._count:
                # All images take the first step.
                whole = self._unchanged(name, made[-1])
                whole[rows] = value
                value = whole
            made.append(value)
        while len(made) < steps:
            made.append(self._unchanged(name, made[-1]))
        return made

    def _unchanged(self, name: str, last: Tensor) -> Tensor:
        still = self._still[name]
        return last.clone() if still is None else torch.full_like(last, still)

    def _whole(self, arrivals: Sequence[tuple[Tensor, Arrival]]) -> Tensor:
        values = [arrival() for _, arrival in arrivals]
        if len(values) == 1:
            return values[0]
        whole = torch.empty(self._count, *values[0].shape[1:], dtype=values[0].dtype)
        for (rows, _), value in zip(arrivals, values, strict=True):
            whole[rows] = value
        return whole
