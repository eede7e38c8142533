"""Measurement of a model's stages and whole loop, and of the plain implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.core.bench.convolutions import (
    Layer,
    Rates,
    bare_seconds,
    encoder_layers,
    generator_layers,
    peak_rates,
)
from restyle.core.bench.grouped import GroupedReference
from restyle.core.bench.on_gpu import replayed
from restyle.core.bench.timing import Clock, Timing, timed
from restyle.core.checkpoints.directory import read_model
from restyle.core.checkpoints.weights import assemble_encoder, assemble_generator, generator_shape
from restyle.core.devices.hardware import DTYPES, choose_device, convolving
from restyle.core.devices.precision import named
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import Model, load_model
from restyle.core.networks.convolution import Target

STAGES = ("encoder", "synthesis", "loop")
FAST = "fast"
PLAIN = "plain"


@dataclass(frozen=True)
class Plan:
    """Settings of a benchmark.

    Attributes:
        dtypes: of the fast path; the plain implementation is measured in fp32.
        batches: batch sizes.
        steps: refinement steps.
        repeats: number of measurements.
        reference: whether to measure the plain implementation too.
        device: ``auto``, ``cpu``, ``cuda``.
        cpu_time: measure CPU time, see :class:`~restyle.core.bench.timing.Clock`.
    """

    dtypes: Sequence[str] = ("fp32", "bf16")
    batches: Sequence[int] = (1, 4)
    steps: int = 5
    repeats: int = 5
    reference: bool = True
    device: str = "auto"
    cpu_time: bool = False


@dataclass(frozen=True)
class Row:
    """Times of a stage in one setting, in seconds per image.

    Attributes:
        stage: one of :data:`STAGES`; encoder and synthesis are for one step.
        path: :data:`FAST` or :data:`PLAIN`.
        dtype: one of :data:`restyle.core.devices.hardware.DTYPES`.
        batch: batch size.
        timing: of the stage.
        floor: time of its convolutions at the peak rates.
        bare: sum of the times of its single convolutions; None for the reference.
    """

    stage: str
    path: str
    dtype: str
    batch: int
    timing: Timing
    floor: float
    bare: float | None = None


@dataclass(frozen=True)
class Finding:
    """Result for one path, dtype and batch size.

    Attributes:
        rows: one for each stage.
        latents: [B, n_styles, style_dim] after the last step, for fixed images.
    """

    rows: list[Row]
    latents: Tensor


class Bench:
    """Measures a model.

    Args:
        directory: of the model.
        encoder: name of the encoder; the model's default when None.
        plan: settings.

    Attributes:
        steps: refinement steps; one for a single-pass encoder.
        peaks: peak rates of this machine by dtype.
    """

    def __init__(self, directory: Path, encoder: str | None, plan: Plan) -> None:
        self._plan = plan
        self._spec = f"{directory}:{encoder}" if encoder else str(directory)
        self._config, self._weights = read_model(directory, encoder)
        name = self._weights.default_encoder
        own = self._weights.encoders[name]
        self.steps = plan.steps if self._config.encoders[name].iterative else 1
        shape = generator_shape(self._weights.generator, self._spec)
        size = self._config.image_size
        self._layers: dict[str, list[Layer]] = {
            "encoder": encoder_layers(own.kind, own.state, size),
            "synthesis": generator_layers(shape),
        }
        self.peaks: dict[str, Rates] = {}
        self._clock = Clock(choose_device(plan.device), cpu=plan.cpu_time)

    def findings(self) -> Iterator[Finding]:
        """Measure the reference, then the fast path in each dtype.

        The reference is measured first, because loading a model changes the memory allocator of the
        whole process.
        """
        if self._plan.reference:
            target = Target(choose_device(self._plan.device), torch.float32)
            self._find_peak("fp32", target)
            networks = self._plain_networks(target.device)
            for batch in self._plan.batches:
                yield self._reference(networks, target.device, batch)
            del networks
        for dtype in self._plan.dtypes:
            model = load_model(self._spec, dtype=dtype, device=self._plan.device)
            self._find_peak(dtype, Target(model.device, model.dtype))
            for batch in self._plan.batches:
                yield self._fast(model, dtype, batch)
            del model

    def _find_peak(self, dtype: str, target: Target) -> None:
        if dtype not in self.peaks:
            with _convolving(target.device, dtype):
                self.peaks[dtype] = peak_rates(target, self._plan.repeats, self._clock)

    @torch.inference_mode()
    def _fast(self, model: Model, dtype: str, batch: int) -> Finding:
        repeats, images = self._plan.repeats, self._images(batch)
        x = model.preprocess(images)
        w = model.latent_avg.expand(batch, -1, -1)
        y = model.average_image.expand(batch, -1, -1, -1)
        kept: list[Tensor] = []

        def loop() -> None:
            result = invert(model, images, self.steps, latents="last", batch_size=batch)
            kept[:] = [result.latents[:, -1]]

        with _convolving(model.device, dtype):
            timings = {
                "encoder": self._timed(lambda: model.encode(x, y)),
                "synthesis": self._timed(lambda: model.synthesize(w)),
            }
        timings["loop"] = timed(loop, repeats, self._clock)
        target = Target(model.device, model.dtype)
        with _convolving(model.device, dtype):
            bare = {
                stage: bare_seconds(layers, target, batch, repeats, self._clock)
                for stage, layers in self._layers.items()
            }
        bare["loop"] = self.steps * sum(bare.values())
        return Finding(self._rows(FAST, dtype, batch, timings, bare), kept[0])

    def _timed(self, call: Callable[[], object]) -> Timing:
        """Time a stage; on a GPU as a CUDA graph, as in a step."""
        if choose_device(self._plan.device).type == "cuda":
            call = replayed(call)
        return timed(call, self._plan.repeats, self._clock)

    @torch.inference_mode()
    def _reference(self, networks: GroupedReference, device: torch.device, batch: int) -> Finding:
        x, clock = self._images(batch).to(device), self._clock
        average = self._weights.encoders[self._weights.default_encoder].latent_avg.to(device)
        first = average.expand(batch, -1, -1)
        start = networks.pool(networks.synthesize(first))
        # The synthesis is warm; this warms up the encoder.
        networks.encode(x, start)
        times: dict[str, list[float]] = {"encoder": [], "synthesis": [], "loop": []}
        w, y = first, start
        for index in range(max(self._plan.repeats, self.steps)):
            encoded, residual = clock.seconds(lambda: networks.encode(x, y))  # noqa: B023
            w = w + residual
            rendered, image = clock.seconds(lambda: networks.synthesize(w))  # noqa: B023
            pooled, y = clock.seconds(lambda: networks.pool(image))  # noqa: B023
            times["encoder"].append(encoded)
            times["synthesis"].append(rendered)
            # Steps take equal time; measuring whole loops repeatedly would take minutes.
            times["loop"].append(self.steps * (encoded + rendered + pooled))
            if index + 1 == self.steps:
                latents = w.cpu()
        timings = {stage: Timing(tuple(values)) for stage, values in times.items()}
        return Finding(self._rows(PLAIN, "fp32", batch, timings, {}), latents)

    def _rows(
        self, path: str, dtype: str, batch: int, timings: dict[str, Timing], bare: dict[str, float]
    ) -> list[Row]:
        floor = {
            stage: self.peaks[dtype].floor(layers, DTYPES[named(dtype)].itemsize, batch)
            for stage, layers in self._layers.items()
        }
        floor["loop"] = self.steps * sum(floor.values())
        return [
            Row(
                stage=stage,
                path=path,
                dtype=dtype,
                batch=batch,
                timing=timings[stage].scaled(1 / batch),
                floor=floor[stage],
                bare=bare.get(stage),
            )
            for stage in STAGES
        ]

    def _plain_networks(self, device: torch.device) -> GroupedReference:
        weights = self._weights
        generator = {key: tensor.float().to(device) for key, tensor in weights.generator.items()}
        encoder = assemble_encoder(
            weights.encoders[weights.default_encoder],
            assemble_generator(weights.generator, self._spec),
            self._spec,
        )
        return GroupedReference(self._config, generator, encoder.to(device))

    def _images(self, batch: int) -> Tensor:
        """Smooth images [B, 3, h, w] in [-1, 1], the same every time."""
        noise = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        images = F.interpolate(noise, self._config.image_size, mode="bilinear")
        return images * 2 - 1


def _convolving(device: torch.device, dtype: str) -> AbstractContextManager[None]:
    """Options of cuDNN as in a model's steps with this precision."""
    if device.type != "cuda":
        return nullcontext()
    return convolving(tf32=dtype == "tf32", benchmark=True)
