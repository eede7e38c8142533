"""Loaded models: a generator, one encoder and the average latent, on a device."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.core.checkpoints.loading import Networks, load_networks
from restyle.core.devices import hardware
from restyle.core.devices.allocator import keep_freed_memory
from restyle.core.devices.cuda_graphs import CudaRecorder, StepGraphs, Tensors, wanted
from restyle.core.devices.transfer import DeviceTransfer
from restyle.core.errors import CheckpointError, FatalError
from restyle.core.faces.alignment import Framing
from restyle.core.imaging.preprocessing import Images, preprocess
from restyle.core.inference.batch_size import (
    Footprint,
    cpu_batch,
    free_memory,
    gpu_batch,
    plain_cpu_batch,
)
from restyle.core.inference.encoding.fused_encoder import prepare_encoder
from restyle.core.inference.synthesis import PreparedSynthesis, prepare_synthesis
from restyle.core.metrics.measures import MetricSet
from restyle.core.networks.convolution import FixedConvolution, Target
from restyle.core.networks.generator import Generator
from restyle.core.shown_text import visible
from restyle.kernels import native
from restyle.kernels.choice import Impl
from restyle.kernels.errors import KernelError

MAPPING = "style."
"""First part of the names of the mapping network's parameters."""

_LARGEST_CHUNK = 64
_SPREAD_SAMPLES = 10_000


def load_model(
    spec: str | os.PathLike[str], *, dtype: str = "auto", device: str = "auto", impl: Impl = "auto"
) -> Model:
    """Load a model.

    Args:
        spec: the name of an embedded model (``faces64``) or a model directory, either with an
            optional ``:ENCODER`` suffix, or a published ``.pt`` checkpoint, with a ``:DOMAIN``
            suffix where the domain cannot be derived from the file.
        dtype: of activations: ``fp32``, ``bf16``, ``tf32`` on a GPU, or ``auto`` for bf16 if the
            processor supports it in hardware.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        impl: of the generator's operators: ``native`` for compiled ones, ``reference`` for plain
            PyTorch, ``auto`` for compiled ones if there is a compiler.

    Raises:
        SpecError: an unknown model, encoder, domain, dtype or device.
        CheckpointError: files are missing, damaged, unsafe or do not fit together.
        FatalError: ``native`` operators cannot be built.
    """
    # Options are checked before gigabytes are read.
    placement = hardware.choose(dtype, device)
    keep_freed_memory()
    hardware.set_up_gpu(placement.device)
    return Model(load_networks(os.fspath(spec)), placement, impl)


def _prepare(generator: Generator, target: Target) -> tuple[str, PreparedSynthesis | None]:
    try:
        prepared = prepare_synthesis(generator, target)
        return native.describe(target.device.type, generator.impl), prepared
    except KernelError as error:
        raise FatalError(str(error)) from error


class Model:
    """A domain's generator and one encoder, on a device; created by :func:`load_model`.

    Attributes:
        config: content of ``model.json``.
        encoder_name: name of the encoder in the config.
        domain_reason: how the domain of a published checkpoint was derived; empty for a model
            directory.
        generator: float32 parameters, activations in :attr:`dtype`. Rendering uses copies of the
            parameters, so a changed generator needs a new Model.
        encoder: prepared for inference in :attr:`dtype`.
        latent_avg: [n_styles, style_dim] float32.
        device: the device of all computations.
        dtype: of activations.
        dtype_reason: the dtype with a reason, such as ``bf16: avx512_bf16``.
        kernels: the generator's operators with a reason, such as ``native: g++ 12.2.0``.
        transfer: copies batches to the device and results to the CPU.
        identity_weights: weights of the face recogniser of ``id_similarity``, to be set before
            metrics are used; None for the embedded one.
        fingerprint: SHA-256 in hex of the weights and of every setting that changes a latent; does
            not depend on the files' names and locations.
    """

    def __init__(
        self, networks: Networks, placement: hardware.Placement, impl: Impl = "auto"
    ) -> None:
        self.config = networks.config
        self.encoder_name = networks.encoder_name
        self.domain_reason = networks.domain_reason
        self.device = placement.device
        self.dtype = placement.dtype
        self.dtype_reason = placement.dtype_reason
        self._tf32 = placement.tf32
        self.generator = networks.generator.to(self.device)
        self.generator.dtype, self.generator.impl = self.dtype, impl
        self._target = Target(self.device, self.dtype, impl)
        self.kernels, self._prepared = _prepare(self.generator, self._target)
        self.encoder = prepare_encoder(networks.encoder, self._target)
        self.latent_avg = networks.latent_avg.to(self.device)
        self.fingerprint = self.config.fingerprint(self.encoder_name)
        self.transfer = DeviceTransfer(self.device)
        self.identity_weights: Path | None = None
        self._metric_sets: dict[tuple[str, ...], MetricSet] = {}

    @property
    def n_styles(self) -> int:
        """Style vectors per image."""
        return self.generator.config.n_styles

    @property
    def style_dim(self) -> int:
        """Length of a style vector."""
        return self.generator.config.style_dim

    @property
    def gpu_name(self) -> str:
        """Name of the GPU; empty on a CPU."""
        return hardware.gpu_name(self.device) if self.device.type == "cuda" else ""

    @property
    def graph_problem(self) -> str:
        """Why steps on a GPU do not use CUDA graphs; empty if they do, and on a CPU."""
        if self.device.type != "cuda":
            return ""
        return self._graphs.problem if self._graphs else "switched off"

    @property
    def iterative(self) -> bool:
        """Whether the encoder refines iteratively; otherwise it is single-pass."""
        return self.encoder.in_channels == 6

    @property
    def framing(self) -> Framing:
        """Scale and shift of the aligned crop for this domain."""
        return Framing(self.config.framing_scale, self.config.framing_shift)

    @functools.cached_property
    def average_image(self) -> Tensor:
        """y_0 = G(latent_avg) [1, 3, h, w] float32, pooled to the encoder's input size."""
        # Cached, so it must not be an inference tensor.
        with torch.inference_mode(False), torch.no_grad():
            return self.pool(self.synthesize(self.latent_avg[None]))

    @functools.cached_property
    def latent_spread(self) -> float:
        """Root of the mean square distance of mapped latents from their mean, in W."""
        with torch.inference_mode(False), torch.no_grad():
            source = torch.Generator().manual_seed(0)
            z = torch.randn(_SPREAD_SAMPLES, self.generator.config.z_dim, generator=source)
            w = self.generator.mapping(z.to(self.device))
            return float((w - w.mean(dim=0)).square().sum(dim=1).mean().sqrt())

    def tuned(self, weights: Mapping[str, Tensor]) -> Model:
        """This model with a generator of its own; the encoder and metrics are shared.

        Args:
            weights: differences from the parameters of this generator by name, as of
                :func:`restyle.core.inference.tuning.tune` for one face.

        Raises:
            CheckpointError: they do not fit this generator, or are not finite.
        """
        other = copy.copy(self)
        # What is cached was rendered by this generator, or is recorded for it.
        for name in ("average_image", "_graphs", "_fixed"):
            other.__dict__.pop(name, None)
        other.generator = copy.deepcopy(self.generator)
        parameters = dict(other.generator.named_parameters())
        for name, value in weights.items():
            mine = parameters.get(name)
            if mine is None or mine.shape != value.shape or not bool(value.isfinite().all()):
                raise CheckpointError(
                    f"these tuned weights are not of {self.config.name}: {visible(name)} is "
                    f"{list(value.shape)} or not finite"
                )
            with torch.no_grad():
                mine.add_(value.to(mine.device, mine.dtype))
        _, other._prepared = _prepare(other.generator, self._target)
        return other

    def preprocess(self, images: Images) -> Tensor:
        """Convert images to the encoder's input [B, 3, h, w] float32 in [-1, 1] on the device.

        See :func:`restyle.core.imaging.preprocessing.preprocess`.
        """
        return preprocess(images, self.config.image_size).to(self.device)

    def encode(self, x: Tensor, previous: Tensor) -> Tensor:
        """Predict the residual to the previous latent.

        Args:
            x: [B, 3, h, w] in [-1, 1], the images.
            previous: [B, 3, h, w], their last reconstructions; single-pass encoders ignore them.

        Returns:
            [B, n_styles, style_dim] float32.
        """
        inputs = torch.cat([x, previous], dim=1) if self.iterative else x
        inputs = inputs.to(self.dtype, memory_format=torch.channels_last)
        with self.convolving():
            residual: Tensor = self.encoder(inputs)
        return residual

    def step(self, x: Tensor, previous: Tensor, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of refinement (2104.02699, section 3).

        On a GPU the step runs as a CUDA graph where possible, see
        :mod:`restyle.core.devices.cuda_graphs`, and does not wait for the GPU.

        Args:
            x: [B, 3, h, w] in [-1, 1], the images.
            previous: [B, 3, h, w] float32, their last reconstructions.
            latents: [B, n_styles, style_dim] float32, the latents of ``previous``.

        Returns:
            The new latents, their image [B, 3, H, W] float32, and that image pooled.
        """
        graphs = self._graphs
        if graphs is None:
            made = self._step(x, previous, latents)
        else:
            # With few batch sizes a search for convolution algorithms pays off.
            with self.convolving(benchmark=True):
                made = graphs(self._step, x, previous, latents)
        latents, image, pooled = made
        return latents, image, pooled

    def convolving(self, *, benchmark: bool | None = None) -> AbstractContextManager[None]:
        """Context in which convolutions have the model's precision.

        Args:
            benchmark: on a GPU, time algorithms for each new shape and use the fastest.
        """
        if self.device.type != "cuda":
            return nullcontext()
        return hardware.convolving(tf32=self._tf32, benchmark=benchmark)

    @functools.cached_property
    def _graphs(self) -> StepGraphs | None:
        return StepGraphs(CudaRecorder(self.device)) if wanted(self.device) else None

    def _step(self, x: Tensor, previous: Tensor, latents: Tensor) -> Tensors:
        latents = self.encode(x, previous) + latents
        image = self.synthesize(latents)
        return latents, image, self.pool(image)

    def synthesize(self, latents: Tensor) -> Tensor:
        """Render latents with the stored noise.

        Args:
            latents: [B, n_styles, style_dim].

        Returns:
            [B, 3, H, W] float32, about [-1, 1], not clipped; only ``output_rows`` of the config.
        """
        latents = latents.to(self.device, torch.float32)
        render = self._prepared or self.generator.synthesis
        with self.convolving():
            images = [self.cropped(render(chunk)) for chunk in torch.split(latents, self._chunk)]
        return images[0] if len(images) == 1 else torch.cat(images)

    def differentiable(self, latents: Tensor) -> Tensor:
        """Render as :meth:`synthesize`, with gradients; for small batches and whole images.

        Args:
            latents: [B, n_styles, style_dim] float32 on the device.

        Returns:
            [B, 3, H, W] float32.
        """
        return self.cropped(self.generator.synthesis(latents, fixed=self._fixed))

    def prepare_gradients(self) -> None:
        """Prepare :meth:`differentiable` now, before several threads would."""
        _ = self._fixed

    @functools.cached_property
    def _fixed(self) -> list[FixedConvolution | None]:
        """The generator's convolutions with fixed weights; gradients are of latents alone."""
        with torch.inference_mode(False), torch.no_grad():
            return [
                FixedConvolution.of(
                    layer.conv.scaled_weight, self._target, doubles=layer.conv.blur is not None
                )
                for layer in self.generator.styled
            ]

    @functools.cached_property
    def batch_size(self) -> int:
        """Default batch size for the model and device; on a GPU, from the memory free at first."""
        side = self.generator.config.size
        if self.device.type != "cuda":
            return cpu_batch(side)
        return gpu_batch(self.generator.config, self.footprint.bytes, free_memory(self.device))

    @property
    def footprint(self) -> Footprint:
        """Memory that one image needs during a step."""
        return Footprint(
            self.generator.config,
            self.config.image_size,
            self.dtype,
            plain=self._prepared is None,
        )

    @functools.cached_property
    def _chunk(self) -> int:
        if self.device.type == "cuda":
            return self.batch_size
        # The prepared synthesis splits large activations itself on a CPU.
        return plain_cpu_batch(self.generator.config) if self._prepared is None else _LARGEST_CHUNK

    def cropped(self, images: Tensor) -> Tensor:
        """The rows of generated images [B, 3, size, size] that the domain uses."""
        rows = self.config.output_rows
        return images if rows is None else images[:, :, rows[0] : rows[1]]

    def pool(self, images: Tensor) -> Tensor:
        """Average-pool [B, 3, H, W] to the encoder's input size [B, 3, h, w]."""
        if tuple(images.shape[-2:]) == self.config.image_size:
            return images
        height, width = self.config.image_size
        if images.shape[2] % height or images.shape[3] % width:
            return F.adaptive_avg_pool2d(images, (height, width))
        # Rows before columns: three times as fast as torch's pooling on a CPU.
        count, channels, _, across = images.shape
        rows = images.reshape(count, channels, height, -1, across).mean(dim=3)
        return rows.reshape(count, channels, height, width, -1).mean(dim=4)

    def metrics(self, names: Iterable[str]) -> MetricSet:
        """Metrics for this domain, loaded once; names as in ``registry.METRICS``."""
        key = tuple(names)
        if key not in self._metric_sets:
            framing = self.framing if self.config.align else None
            self._metric_sets[key] = MetricSet(
                key,
                framing=framing,
                device=self.device,
                identity_weights=self.identity_weights,
            )
        return self._metric_sets[key]
