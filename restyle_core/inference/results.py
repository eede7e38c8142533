"""Results of an inversion: which values of its steps to keep, and their way from the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from restyle.core.devices.transfer import Arrival, DeviceTransfer
from restyle.core.errors import FatalError, SpecError
from restyle.core.imaging.preprocessing import to_bytes
from restyle.core.inference.model import Model
from restyle.core.inference.refinement import Step
from restyle.core.metrics.registry import METRICS

Reconstructions = Literal["none", "last", "all"]

# First parts of names of kept values: images that end a part of the way, and tuned weights.
_END, _WEIGHT = "end ", "weight "


@dataclass(frozen=True, eq=False)
class Inversion:
    """Result of :func:`restyle.invert`; values that were not requested are None or empty.

    An image that stopped early (``tolerance``) repeats its last values in the remaining steps, with
    a change of zero. Optimisation counts as one step, after the encoder's; tuning as one, the last.

    Attributes:
        latents: [B, steps, n_styles, style_dim] float32, or [B, 1, ...] for the last step only.
        reconstructions: [B, steps or 1, 3, H, W] float32 at the generator's size, or uint8. "last"
            holds the last one of the encoder, of optimisation and of tuning.
        metrics: [B, steps] float32 for each metric's name, at the encoder's size.
        deltas: [B, steps] float32, mean absolute change from the previous image.
        heatmaps: [B, steps, h, w] float32, the change of each pixel at the encoder's size.
        steps: [B] int64, number of steps of each image; may be empty.
        iterations: [B] int64, number of steps of optimisation of each image; None without.
        seconds: [B, steps] float32, an image's share of the time that its step took; see
            :attr:`Keep.seconds`. None if it was not measured.
        measuring: [B] float32, its share of the time of everything else, such as metrics.
        weights: [B, ...] by name, differences of each image's generator from the model's, see
            :meth:`restyle.core.inference.model.Model.tuned`; empty without tuning.
    """

    latents: Tensor
    reconstructions: Tensor | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)
    deltas: Tensor | None = None
    heatmaps: Tensor | None = None
    steps: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    iterations: Tensor | None = None
    seconds: Tensor | None = None
    measuring: Tensor | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)

    def best(self, metric: str) -> Tensor:
        """Index [B] of the step with each image's best value of a metric, the first of equals.

        An image without any value has its last step.

        Raises:
            SpecError: the metric was not computed.
        """
        if metric not in self.metrics:
            raise SpecError(f"{metric} was not computed; it is needed to find the best step")
        values = self.metrics[metric].double()
        if METRICS[metric].better == "higher":
            values = -values
        missing = values.isnan()
        best = values.masked_fill(missing, math.inf).argmin(dim=1)
        last = torch.full_like(best, values.shape[1] - 1)
        return torch.where(missing.all(dim=1), last, best)

    @property
    def image(self) -> Tensor:
        """The last reconstructions, [B, 3, H, W].

        Raises:
            SpecError: they were not kept.
        """
        if self.reconstructions is None:
            raise SpecError("this inversion kept no images; ask for reconstructions='last'")
        return self.reconstructions[:, -1]


@dataclass(frozen=True)
class Keep:
    """The values of each step to keep; other fields as the arguments of :func:`restyle.invert`.

    Attributes:
        seconds: whether to measure the time of each step, in the thread that computes it; on a CPU
            alone, because a GPU has not finished a step when the next one is launched.
    """

    reconstructions: Reconstructions = "last"
    latents: Literal["last", "all"] = "all"
    metrics: tuple[str, ...] = ()
    deltas: bool = False
    heatmaps: bool = False
    eight_bit: bool = False
    seconds: bool = False

    def collect(self, made: Iterator[Step], model: Model, x: Tensor, count: int) -> Kept:
        """Compute the values to keep of a batch and start their transfer to the CPU.

        Args:
            made: steps of the batch.
            model: provides the metrics.
            x: [B, 3, h, w], the images.
            count: number of images to keep; those behind are fillers.
        """
        kept = Kept(len(x), model.transfer, count)
        clock = _StepClock(count)
        measure = self._measure(model, x)
        for step in clock.timed(made):
            if len(step.rows) < len(kept.rows):
                measure = self._measure(model, x[step.rows.to(x.device)])
            kept.rows = step.rows
            if self.seconds:
                kept.add("seconds", clock.share(step), still=0.0)
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
            every = torch.ones_like(step.final)
            if step.ends_part and self.reconstructions == "last":
                kept.finish(f"{_END}{step.index}", self._image(step.image), every)
            if step.iterations is not None:
                kept.finish("iterations", step.iterations, every)
            for name, value in step.weights.items():
                kept.finish(_WEIGHT + name, value, every)
            if step.final.any():
                kept.finish("steps", torch.full((len(step.rows),), step.index), step.final)
                kept.finish("finite", _finite(step), step.final)
                if self.latents == "last":
                    kept.finish("latents", step.latents, step.final)
                if self.reconstructions == "last":
                    kept.finish("reconstructions", self._image(step.image), step.final)
            # Release the step's memory before the next step is computed.
            del step
        if self.seconds:
            kept.rows = torch.arange(len(x))
            every = torch.ones(len(x), dtype=torch.bool)
            kept.finish("measuring", clock.rest(len(x)), every)
        return kept

    def _image(self, image: Tensor) -> Tensor:
        return to_bytes(image) if self.eight_bit else image

    def _measure(self, model: Model, x: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
        if not self.metrics:
            return lambda _: {}
        return model.metrics(self.metrics).against_there(x)

    def joined(self, parts: Sequence[dict[str, Tensor]]) -> Inversion:
        """Concatenate batches, each with tensors [B, steps or 1, ...] by name.

        Raises:
            FatalError: a latent or a reconstruction is not finite.
        """
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        finite = joined["finite"]
        if not finite.all():
            # Converted to eight bits, such an image would be black.
            raise FatalError(
                f"{int((~finite).sum())} of {len(finite)} images came out as values that are not "
                "finite: the model's weights or its precision are at fault; try dtype fp32 or "
                "another checkpoint"
            )
        return Inversion(
            steps=joined["steps"][:, 0],
            latents=joined["latents"],
            reconstructions=_reconstructions(joined),
            metrics={name: joined[name] for name in self.metrics},
            deltas=joined.get("deltas"),
            heatmaps=joined.get("heatmaps"),
            iterations=None if "iterations" not in joined else joined["iterations"][:, 0],
            seconds=joined.get("seconds"),
            measuring=None if "measuring" not in joined else joined["measuring"][:, 0],
            weights={
                name.removeprefix(_WEIGHT): values[:, 0]
                for name, values in joined.items()
                if name.startswith(_WEIGHT)
            },
        )


def _reconstructions(joined: dict[str, Tensor]) -> Tensor | None:
    ends = [joined[name] for name in joined if name.startswith(_END)]
    last = [joined[name] for name in ("reconstructions",) if name in joined]
    parts = ends + last
    return torch.cat(parts, dim=1) if parts else None


def _finite(step: Step) -> Tensor:
    """Whether all values of each latent and reconstruction are finite, [n] bool."""
    latents, images = (part.isfinite().flatten(1).all(1) for part in (step.latents, step.pooled))
    return latents & images


class _StepClock:
    """Seconds of the steps of a batch, and of what is done between them.

    Args:
        count: number of images that share the seconds.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._begun = time.perf_counter()
        self._last = 0.0
        self._steps = 0.0

    def timed(self, made: Iterator[Step]) -> Iterator[Step]:
        """Yield the steps, measuring how long each takes."""
        while True:
            started = time.perf_counter()
            step = next(made, None)
            self._last = time.perf_counter() - started
            self._steps += self._last
            if step is None:
                return
            yield step
            # This generator must not keep the step's megapixel images.
            del step

    def share(self, step: Step) -> Tensor:
        """Each image's share of the last step, [n]."""
        return torch.full((len(step.rows),), self._last / min(self._count, len(step.rows)))

    def rest(self, images: int) -> Tensor:
        """Each image's share of the time that no step took, [images]."""
        rest = time.perf_counter() - self._begun - self._steps
        return torch.full((images,), rest / self._count)


class Kept:
    """Values of a batch in transfer to the CPU.

    Args:
        count: images in the batch.
        transfer: performs the copies.
        wanted: the first so many images are kept.

    Attributes:
        rows: indices of the images that the next values belong to.
    """

    def __init__(self, count: int, transfer: DeviceTransfer, wanted: int) -> None:
        self._count = count
        self._wanted = wanted
        self._transfer = transfer
        self._series: dict[str, list[tuple[Tensor, Arrival]]] = {}
        self._last: dict[str, list[tuple[Tensor, Arrival]]] = {}
        self._still: dict[str, float | None] = {}
        self.rows = torch.arange(count)

    def add(self, name: str, value: Tensor, *, still: float | None = None) -> None:
        """Append a step's values.

        Args:
            name: of the series.
            value: [n, ...], of :attr:`rows`.
            still: value of images that have stopped; None repeats their last one.
        """
        self._still[name] = still
        self._series.setdefault(name, []).append((self.rows, self._transfer.download(value)))

    def finish(self, name: str, value: Tensor, final: Tensor) -> None:
        """Set a value of the images whose last step this is.

        Args:
            name: of the value.
            value: [n, ...], of :attr:`rows`.
            final: [n] bool, selects those images.
        """
        chosen = value if final.all() else value[final.to(value.device)]
        coming = self._transfer.download(chosen)
        self._last.setdefault(name, []).append((self.rows[final], coming))

    def complete(self, steps: int) -> dict[str, Tensor]:
        """Wait for all values: [B, steps or 1, ...] on the CPU, by name.

        Args:
            steps: length of the series, also when every image stopped earlier.
        """
        whole = {
            **{name: torch.stack(self._grown(name, steps), dim=1) for name in self._series},
            **{name: self._whole(arrivals)[:, None] for name, arrivals in self._last.items()},
        }
        return {name: values[: self._wanted] for name, values in whole.items()}

    def _grown(self, name: str, steps: int) -> list[Tensor]:
        made: list[Tensor] = []
        for rows, arrival in self._series[name]:
            value = arrival()
            if len(rows) < self._count:
                # There is a previous step, because all images take the first one.
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
