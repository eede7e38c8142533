"""Images to latents: refinement in batches, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from restyle_core.errors import SpecError
from restyle_core.model import Model
from restyle_core.preprocessing import Images
from restyle_core.refinement import Start, Step, refine

Reconstructions = Literal["none", "last", "all"]

_DEFAULT_BATCH = 8


@dataclass(frozen=True, eq=False)
class Inversion:
    """Result of :func:`invert`; what was not asked for is None or empty.

    An image that stopped early (``tolerance``) keeps its last values in all steps that it did not
    take, and its change there is zero.

    Attributes:
        latents: [B, steps, n_styles, style_dim] float32, or [B, 1, ...] for the last step only.
        reconstructions: [B, steps or 1, 3, H, W] float32 at the generator's size.
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
) -> Inversion:
    """Invert images: find the latents whose images they are.

    Args:
        model: from :func:`restyle_core.load_model`.
        images: uint8 [B, H, W, 3], float [B, 3, H, W] in [-1, 1], or RGB pictures.
        steps: of refinement; exactly one for a single-pass encoder.
        reconstructions: which steps' images to keep.
        latents: which steps' latents to keep.
        metrics: names to compute at every step, see :data:`restyle_core.metrics.METRICS`.
        deltas: compute how much each step changed the image.
        heatmaps: keep where each step changed the image.
        start: go on from these instead of the model's average: a :class:`Step`, or an
            :class:`Inversion`, whose last step counts.
        tolerance: stop refining an image once a step changes its pixels by less than this on
            average; images are in [-1, 1], and 0 never stops.
        batch_size: images in work at once; 8 when None.

    Returns:
        An :class:`Inversion` on the CPU.

    Raises:
        SpecError: options that contradict the model or the images.
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
    size = _DEFAULT_BATCH if batch_size is None else batch_size
    if count == 0 or size < 1:
        raise SpecError(f"{count} images in batches of {size}; both must be at least one")
    origin = None if start is None else _start(start, count)
    keep = _Keep(reconstructions, latents, tuple(metrics), deltas, heatmaps)
    parts = []
    for first in range(0, count, size):
        rows = slice(first, first + size)
        part = None if origin is None else _Batch(origin.latents[rows], origin.image[rows])
        x = model.preprocess(images[rows])
        parts.append(
            keep.collect(refine(model, x, steps, part, tolerance=tolerance), model, x, steps)
        )
    # Stacked outside of inference mode, so that results may take part in anything later.
    return keep.joined(parts)


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
class _Keep:
    """Which parts of each step an inversion keeps."""

    reconstructions: Reconstructions
    latents: Literal["last", "all"]
    metrics: tuple[str, ...]
    deltas: bool
    heatmaps: bool

    def collect(self, made: Iterator[Step], model: Model, x: Tensor, steps: int) -> _Kept:
        """Everything to keep of a batch, on the CPU.

        Args:
            made: its steps.
            model: for the metrics.
            x: [B, 3, h, w], the images.
            steps: how many there are at most.
        """
        kept = _Kept(len(x))
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
                kept.add("reconstructions", step.image)
            if self.deltas or self.heatmaps:
                change = step.change()
                if self.heatmaps:
                    kept.add("heatmaps", change, still=0.0)
                if self.deltas:
                    kept.add("deltas", change.mean(dim=(1, 2)), still=0.0)
            if step.final.any():
                kept.finish("steps", torch.full((len(step.rows),), step.index), step.final)
                if self.latents == "last":
                    kept.finish("latents", step.latents, step.final)
                if self.reconstructions == "last":
                    kept.finish("reconstructions", step.image, step.final)
            # Nothing holds on to this step while the next one is made.
            del step
        kept.fill(steps)
        return kept

    def _measure(self, model: Model, x: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
        if not self.metrics:
            return lambda _: {}
        against = model.metrics(self.metrics).against(x)
        return lambda image: dict(against(image))

    def joined(self, parts: Sequence[_Kept]) -> Inversion:
        """Put batches and steps together."""
        joined = {
            name: torch.cat([torch.stack(part.series[name], dim=1) for part in parts])
            for name in parts[0].series
        }
        return Inversion(
            steps=joined["steps"][:, 0],
            latents=joined["latents"],
            reconstructions=joined.get("reconstructions"),
            metrics={name: joined[name] for name in self.metrics},
            deltas=joined.get("deltas"),
            heatmaps=joined.get("heatmaps"),
        )


class _Kept:
    """What is kept of a batch, on the CPU: for each name one tensor [B, ...], or one a step.

    Args:
        count: images in the batch.

    Attributes:
        rows: which images the values to come belong to.
        series: what was kept.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._still: dict[str, float | None] = {}
        self.rows = torch.arange(count)
        self.series: dict[str, list[Tensor]] = {}

    def add(self, name: str, value: Tensor, *, still: float | None = None) -> None:
        """Append a step's values.

        Args:
            name: of the series.
            value: [n, ...], of :attr:`rows`.
            still: of images that have stopped; None for what they had before.
        """
        series = self.series.setdefault(name, [])
        self._still[name] = still
        whole = value.cpu()
        if len(self.rows) < self._count:
            whole = self._unchanged(name)
            whole[self.rows] = value.cpu()
        series.append(whole)

    def finish(self, name: str, value: Tensor, final: Tensor) -> None:
        """Set the only values of images for which no step follows.

        Args:
            name: of the series.
            value: [n, ...], of :attr:`rows`.
            final: [n] bool, for which of them.
        """
        if name not in self.series and final.all():
            self.series[name] = [value.cpu()]
            return
        if name not in self.series:
            whole = torch.empty(self._count, *value.shape[1:], dtype=value.dtype)
            self.series[name] = [whole]
        self.series[name][0][self.rows[final]] = value[final.to(value.device)].cpu()

    def fill(self, steps: int) -> None:
        """Bring what grows with the steps to all of them, also when every image has stopped."""
        for name in self._still:
            while len(self.series[name]) < steps:
                self.series[name].append(self._unchanged(name))

    def _unchanged(self, name: str) -> Tensor:
        last, still = self.series[name][-1], self._still[name]
        return last.clone() if still is None else torch.full_like(last, still)
