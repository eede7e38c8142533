"""Train a ReStyle encoder, or a single-pass one, against a frozen generator.

Alaluf et al., "ReStyle" (2104.02699), section 4: every batch is refined for several steps; each
step has its own loss and backward pass, and nothing flows between steps. The paper moves the
optimizer once per batch; moving it after every step makes more of a short run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_core.alignment import Framing
from restyle_core.lpips import load_lpips
from restyle_core.recognition import chips_from_crops, load_face_embedder
from restyle_core.small_encoder import SmallBackboneEncoder, SmallEncoderConfig
from restyle_core.training.crops import batch_indices
from restyle_core.training.generator import load_trained_generator
from restyle_core.training.loop import begin, resume, train
from restyle_core.training.ranger import Ranger
from restyle_core.training.schedule import cosine_decay, update_average
from restyle_core.training.spec import EncoderSpec, Schedule

_GRID = 16


class ReconstructionLoss:
    """The weighted losses between a reconstruction and its target, with the target seen once.

    Args:
        spec: weights and framing.
        target: [B, 3, h, w] in [-1, 1].
        networks: from :func:`load_networks`.
        dtype: of the networks' activations.
    """

    def __init__(
        self, spec: EncoderSpec, target: Tensor, networks: LossNetworks, dtype: torch.dtype
    ) -> None:
        self.spec, self.target, self.networks, self.dtype = spec, target, networks, dtype
        with torch.no_grad():
            self.perceptual = networks.perceptual(target, dtype) if spec.losses.lpips else None
            self.identity = networks.identity(target, dtype) if spec.losses.identity else None

    def __call__(self, image: Tensor, *, with_identity: bool) -> dict[str, Tensor]:
        """Losses of one step's reconstruction [B, 3, h, w]."""
        weights = self.spec.losses
        losses = {"l2": weights.l2 * F.mse_loss(image, self.target)}
        if self.perceptual is not None:
            features = self.networks.perceptual(image, self.dtype)
            distance = self.networks.lpips.distance(features, self.perceptual).mean()
            losses["lpips"] = weights.lpips * distance
        if with_identity and self.identity is not None:
            embedding = self.networks.identity(image, self.dtype)
            angle = 1 - F.cosine_similarity(embedding, self.identity).mean()
            losses["identity"] = weights.identity / weights.identity_share * angle
        return losses


class LossNetworks:
    """The frozen networks that losses look through."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.lpips = load_lpips()
        self.embedder = load_face_embedder()

    def perceptual(self, images: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """LPIPS maps of [B, 3, h, w]."""
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return self.lpips.features(images)

    def identity(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Face embeddings [B, 128] of [B, 3, h, w]."""
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            embedding: Tensor = self.embedder(chips_from_crops(images, self.framing))
        return embedding


class EncoderTrainer:
    """One run of ``restyle train encoder``.

    Args:
        spec: what to train.
        folder: the run's folder; a checkpoint in it is continued.
    """

    def __init__(self, spec: EncoderSpec, folder: Path) -> None:
        self.spec = spec
        start = begin(spec, folder)
        self.journal, self.crops, self.dtype = start.journal, start.crops, start.dtype
        self.generator, self.latent_avg = load_trained_generator(spec.generator)
        self.generator.dtype = self.dtype
        self.encoder, self.average = self._new_encoder(), self._new_encoder()
        self.average.load_state_dict(self.encoder.state_dict())
        self.average.requires_grad_(False)
        self.networks = LossNetworks(Framing(spec.framing_scale, spec.framing_shift))
        optimizer = spec.optimizer
        self.optimizer = Ranger(
            self.encoder.parameters(), optimizer.lr, optimizer.betas, optimizer.eps
        )
        with torch.no_grad():
            self.average_image = self.generator.synthesis(self.latent_avg[None])
        self.step = resume(self.journal, self._parts())

    def _new_encoder(self) -> SmallBackboneEncoder:
        size = self.crops.images.shape[-1]
        config = SmallEncoderConfig(
            n_styles=self.generator.config.n_styles,
            style_dim=self.generator.config.style_dim,
            in_channels=6 if self.spec.iterative else 3,
            image_size=(size, size),
            widths=self.spec.widths,
            depths=self.spec.depths,
            fine_width=self.spec.fine_width,
        )
        return SmallBackboneEncoder(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _parts(self) -> dict[str, Any]:
        return {"encoder": self.encoder, "average": self.average, "optimizer": self.optimizer}

    def save(self) -> None:
        """Write a checkpoint."""
        states = {name: part.state_dict() for name, part in self._parts().items()}
        self.journal.save({"step": self.step, "latent_avg": self.latent_avg, **states})

    @property
    def schedule(self) -> Schedule:
        """How long the run is and what it writes."""
        return self.spec.schedule

    def run(self, report: Callable[[str], None] = print) -> None:
        """Train to the end of the schedule, from the last checkpoint if there is one."""
        train(self, report)

    def train_step(self) -> dict[str, Tensor]:
        """Refine one batch, step by step, and update the encoder once."""
        spec, batch = self.spec, self.spec.schedule.batch
        # Everything random in a step follows from its number, so a resumed run is the same run.
        torch.manual_seed(spec.schedule.seed * 1_000_003 + self.step)
        images, true_latents = self._batch()
        steps = int(torch.randint(spec.min_steps, spec.steps + 1, ())) if spec.iterative else 1
        objective = ReconstructionLoss(spec, images, self.networks, self.dtype)
        latents = self.latent_avg.expand(batch, -1, -1)
        current = self.average_image.expand(batch, -1, -1, -1)
        seen = self.step * batch
        losses: dict[str, Tensor] = {}
        for step in range(1, steps + 1):
            latents = latents + self._encode(self.encoder, images, current)
            reconstruction = self.generator.synthesis(latents)
            with_identity = bool(torch.rand(()) < spec.losses.identity_share)
            of_step = objective(reconstruction, with_identity=with_identity)
            if spec.losses.latent:
                error = F.mse_loss(latents[: len(true_latents)], true_latents)
                of_step["latent"] = spec.losses.latent * error
            total = torch.stack(list(of_step.values())).sum()
            if spec.optimizer.update == "step":
                total.backward()  # type: ignore[no-untyped-call]
                self._update(seen)
            else:
                (total / steps).backward()  # type: ignore[no-untyped-call]
            # No gradient flows between steps (section 4).
            latents, current = latents.detach(), reconstruction.detach()
            if step == 1 or step == steps:
                name = "last" if step == steps else "first"
                losses |= {f"{key}_{name}": value.detach() for key, value in of_step.items()}
        if spec.optimizer.update == "batch":
            self._update(seen)
        update_average(self.average, self.encoder, batch, spec.optimizer.ema_half_life, seen)
        return losses

    def _update(self, seen: int) -> None:
        """Move the encoder along the gradients that have gathered, and clear them."""
        spec = self.spec
        rate = cosine_decay(seen / spec.schedule.images, spec.optimizer.decay_from)
        rate *= min(1.0, (seen + spec.schedule.batch) / max(1, spec.optimizer.warmup))
        for group in self.optimizer.param_groups:
            group["lr"] = spec.optimizer.lr * rate
        nn.utils.clip_grad_norm_(self.encoder.parameters(), spec.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _encode(self, encoder: nn.Module, images: Tensor, current: Tensor) -> Tensor:
        seen = torch.cat([images, current], dim=1) if self.spec.iterative else images
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            residual: Tensor = encoder(seen.contiguous(memory_format=torch.channels_last))
        return residual.float()

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Images [B, 3, h, w], generated ones first, and the latents of those [K, n, 512]."""
        spec, batch = self.spec, self.spec.schedule.batch
        made = round(batch * spec.synthetic)
        indices = batch_indices(len(self.crops), batch - made, self.step, spec.schedule.seed)
        real = self.crops.batch(indices)
        if spec.mirror:
            flipped = torch.rand(len(real)) < 0.5
            real = torch.where(flipped[:, None, None, None], real.flip(3), real)
        with torch.no_grad():
            w = self.generator.mapping(torch.randn(made, self.generator.config.z_dim))
            latents = w[:, None].expand(-1, self.generator.config.n_styles, -1)
            generated = self.generator.synthesis(latents).clamp(-1, 1)
        return torch.cat([generated, real]), latents

    @torch.no_grad()
    def write_samples(self, seen: int) -> None:
        """A grid: one row of inputs, then one row per refinement step."""
        images = self.crops.batch(torch.arange(_GRID))
        latents = self.latent_avg.expand(_GRID, -1, -1)
        rows, current = [images], self.average_image.expand(_GRID, -1, -1, -1)
        for _ in range(self.spec.steps if self.spec.iterative else 1):
            latents = latents + self._encode(self.average, images, current)
            current = self.generator.synthesis(latents)
            rows.append(current)
        self.journal.write_grid(torch.cat(rows), _GRID, seen)
