"""ReStyle's refinement loop (Alaluf et al., 2104.02699, section 3).

Starting from the average latent w_0 and its image y_0, every step feeds the encoder the target
image x beside the current reconstruction and adds what it predicts::

    w_t = E(x, y_{t-1}) + w_{t-1}
    y_t = G(w_t)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from restyle_core.errors import SpecError
from restyle_core.model import Model
from restyle_core.preprocessing import Images

Reconstructions = Literal["none", "last", "all"]

_DEFAULT_BATCH = 8


class Start(Protocol):
    """Where a refinement goes on from: a :class:`Step`, or anything with these."""

    @property
    def latents(self) -> Tensor:
        """[B, n_styles, style_dim]."""

    @property
    def image(self) -> Tensor:
        """[B, 3, H, W], the latents' images at any size."""


@dataclass(frozen=True, eq=False)
class Step:
    """What one step of refinement produced.

    Attributes:
        index: 1 for the first step.
        latents: [B, n_styles, style_dim] float32, w_t.
        image: [B, 3, H, W] float32 at the generator's size, y_t.
        pooled: [B, 3, h, w] float32, y_t at the encoder's size.
        previous: [B, 3, h, w] float32, y_{t-1} at the encoder's size.
    """

    index: int
    latents: Tensor
    image: Tensor
    pooled: Tensor
    previous: Tensor

    def change(self) -> Tensor:
        """[B, h, w] float32: mean absolute change of a pixel against the image before."""
        return (self.pooled - self.previous).abs().mean(dim=1)


@dataclass(frozen=True, eq=False)
class Inversion:
    """Result of :func:`invert`; what was not asked for is None or empty.

    Attributes:
        latents: [B, steps, n_styles, style_dim] float32, or [B, 1, ...] for the last step only.
        reconstructions: [B, steps or 1, 3, H, W] float32 at the generator's size.
        metrics: [B, steps] float32 for each metric's name, at the encoder's size.
        deltas: [B, steps] float32, mean absolute change against the image before.
        heatmaps: [B, steps, h, w] float32, the change of each pixel at the encoder's size.
    """

    latents: Tensor
    reconstructions: Tensor | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)
    deltas: Tensor | None = None
    heatmaps: Tensor | None = None

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


@torch.inference_mode()
def refine(model: Model, x: Tensor, steps: int, start: Start | None = None) -> Iterator[Step]:
    """Refine a batch of images step by step.

    Args:
        model: a generator and its encoder.
        x: [B, 3, h, w] in [-1, 1], from ``model.preprocess``.
        steps: how many; exactly one for a single-pass encoder.
        start: go on from these latents and images instead of the model's average; with another
            model's first step this is the paper's encoder bootstrapping (section 5).

    Yields:
        One :class:`Step` after another. Nothing of a step is kept here once the next is done.

    Raises:
        SpecError: a number of steps or a start that this encoder cannot work with.
    """
    _check(model, steps, start)
    if start is None:
        w = model.latent_avg.expand(len(x), -1, -1)
        y = model.average_image.expand(len(x), -1, -1, -1)
    else:
        w = start.latents.to(model.device, torch.float32)
        y = model.pool(start.image.to(model.device))
    for t in range(1, steps + 1):
        w = model.encode(x, y) + w
        image = model.synthesize(w)
        previous, y = y, model.pool(image)
        yield Step(t, w, image, y, previous)


def _check(model: Model, steps: int, start: Start | None) -> None:
    if steps < 1:
        raise SpecError(f"steps is {steps}; at least one is needed")
    if not model.iterative and (steps > 1 or start is not None):
        raise SpecError(
            f"encoder {model.encoder_name!r} of {model.config.name} works in a single pass; "
            "ask for steps=1 and no start"
        )
    wanted = (model.n_styles, model.style_dim)
    if start is not None and tuple(start.latents.shape[1:]) != wanted:
        raise SpecError(
            f"the start's latents are {list(start.latents.shape)}, "
            f"{model.config.name} works with [B, {wanted[0]}, {wanted[1]}]"
        )


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
        parts.append(keep.collect(model, x, steps, part))
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

    def collect(
        self, model: Model, x: Tensor, steps: int, start: Start | None
    ) -> dict[str, list[Tensor]]:
        """For each thing to keep a list with one tensor [B, ...] per kept step, on the CPU."""
        kept: dict[str, list[Tensor]] = {}
        measure = self._measure(model, x)
        for step in refine(model, x, steps, start):
            last = step.index == steps
            values = measure(step.pooled)
            if self.latents == "all" or last:
                values["latents"] = step.latents
            if self.reconstructions == "all" or (self.reconstructions == "last" and last):
                values["reconstructions"] = step.image
            if self.deltas or self.heatmaps:
                change = step.change()
                if self.heatmaps:
                    values["heatmaps"] = change
                if self.deltas:
                    values["deltas"] = change.mean(dim=(1, 2))
            for name, value in values.items():
                kept.setdefault(name, []).append(value.cpu())
        return kept

    def _measure(self, model: Model, x: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
        if not self.metrics:
            return lambda _: {}
        against = model.metrics(self.metrics).against(x)
        return lambda image: dict(against(image))

    def joined(self, parts: Sequence[dict[str, list[Tensor]]]) -> Inversion:
        """Put batches and steps together."""
        joined = {
            name: torch.cat([torch.stack(part[name], dim=1) for part in parts]) for name in parts[0]
        }
        return Inversion(
            latents=joined["latents"],
            reconstructions=joined.get("reconstructions"),
            metrics={name: joined[name] for name in self.metrics},
            deltas=joined.get("deltas"),
            heatmaps=joined.get("heatmaps"),
        )
