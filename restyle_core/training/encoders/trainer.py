"""Train a ReStyle encoder, or a single-pass one, against a frozen generator.

Alaluf et al., "ReStyle" (2104.02699), section 4: every batch is refined for several steps; each
step has its own loss and backward pass, and no gradient flows between steps. The paper updates the
weights once per batch; updating after every step converges in fewer images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.faces.alignment import Framing
from restyle.core.networks.backbones import BackboneShape
from restyle.core.networks.encoders import Encoder, EncoderShape, encoder_of_shape
from restyle.core.networks.small_encoder import SmallEncoderConfig
from restyle.core.training.crops import batch_indices
from restyle.core.training.encoders.initial_weights import start_from
from restyle.core.training.encoders.latent_discriminator import LatentAdversary
from restyle.core.training.encoders.reconstruction import LossNetworks, ReconstructionLoss
from restyle.core.training.encoders.spec import EncoderSpec
from restyle.core.training.encoders.validation import Validator
from restyle.core.training.generators.distillation import load_trained_generator
from restyle.core.training.loop import Periodic, Trainer
from restyle.core.training.processes import Processes
from restyle.core.training.ranger import Ranger
from restyle.core.training.schedule import cosine_decay, update_average
from restyle.core.training.spec import Schedule

_GRID = 16
# Largest side of an encoder's input in pixels (2104.02699, section 4).
_LARGEST_INPUT = 256


class EncoderTrainer(Trainer):
    """One run of ``restyle train encoder``.

    Args:
        spec: of the run.
        folder: the run's folder; a checkpoint in it is continued.

    Raises:
        SpecError: the folder belongs to another run, or an input of the run cannot be used.
        CheckpointError: weights are damaged or do not fit.
    """

    def __init__(self, spec: EncoderSpec, folder: Path) -> None:
        self.spec = spec
        self.processes = Processes.join()
        made = round(spec.schedule.batch * spec.synthetic)
        self.processes.check({"generated": made, "real": spec.schedule.batch - made})
        self.generator, self.latent_avg = load_trained_generator(spec.generator)
        self._begin(spec, folder, min(self.generator.config.size, _LARGEST_INPUT))
        self.generator.dtype = self.dtype
        self.encoder, self.average = self._new_encoder(), self._new_encoder()
        if spec.init is not None:
            start_from(self.encoder, spec.init)
        self.average.load_state_dict(self.encoder.state_dict())
        self.average.requires_grad_(False).eval()
        self.adversary = (
            LatentAdversary(spec.e4e, self.generator.config.style_dim)
            if spec.e4e is not None and spec.e4e.adversarial
            else None
        )
        self.networks = LossNetworks(Framing(spec.framing_scale, spec.framing_shift))
        optimizer = spec.optimizer
        self.optimizer = Ranger(
            self.encoder.parameters(), optimizer.lr, optimizer.betas, optimizer.eps
        )
        with torch.no_grad():
            self.average_image = self._render(self.latent_avg[None])
        self.validator = (
            None
            if spec.validation is None
            else Validator(spec.validation, spec, self.crops.images.shape[-1], self.journal)
        )
        self._resume()

    def _new_encoder(self) -> Encoder:
        spec, styles = self.spec, self.generator.config
        channels, side = 6 if spec.iterative else 3, self.crops.images.shape[-1]
        shape: SmallEncoderConfig | EncoderShape
        if spec.backbone == "small":
            shape = SmallEncoderConfig(
                n_styles=styles.n_styles,
                style_dim=styles.style_dim,
                in_channels=channels,
                image_size=(side, side),
                widths=spec.widths,
                depths=spec.depths,
                fine_width=spec.fine_width,
            )
        else:
            backbone = BackboneShape(channels, spec.widths, spec.depths)
            shape = EncoderShape(backbone, styles.n_styles, styles.style_dim)
        encoder = encoder_of_shape(spec.kind, shape)
        return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "encoder": self.encoder,
            "average": self.average,
            "optimizer": self.optimizer,
        }
        if self.adversary is not None:
            parts |= self.adversary.parts()
        return parts if self.validator is None else parts | {"validation": self.validator}

    def _constants(self) -> dict[str, Any]:
        return {"latent_avg": self.latent_avg, "image_size": self.crops.images.shape[-1]}

    @property
    def schedule(self) -> Schedule:
        """Length of the run and the intervals of its outputs."""
        return self.spec.schedule

    def _periodic(self) -> list[Periodic]:
        validator = self.validator
        return [] if validator is None else [Periodic(validator.every, self._validate)]

    def train_step(self) -> dict[str, Tensor]:
        """Refine one batch, step by step, and update the encoder once."""
        spec, batch = self.spec, self.spec.schedule.batch
        self._seed_step()
        images, targets, true_latents = self._batch()
        steps = int(torch.randint(spec.min_steps, spec.steps + 1, ())) if spec.iterative else 1
        objective = ReconstructionLoss(spec.losses, targets, self.networks, self.dtype)
        latents = self.latent_avg.expand(len(images), -1, -1)
        current = self.average_image.expand(len(images), -1, -1, -1)
        seen = self.step * batch
        self._set_stage(seen)
        losses: dict[str, Tensor] = {}
        for step in range(1, steps + 1):
            latents = latents + self._encode(self.encoder, images, current)
            reconstruction = self._render(latents)
            with_identity = bool(torch.rand(()) < spec.losses.identity_share)
            of_step = objective(reconstruction, with_identity=with_identity)
            of_step |= self._latent_losses(latents, true_latents)
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
        if self.adversary is not None:
            latents = self._gathered(latents, len(true_latents))
            real, fake = self._sampled_w(latents), self._predicted_styles(latents)
            losses |= self.adversary.update(real, fake, self.step)
        update_average(self.average, self.encoder, batch, spec.optimizer.ema_half_life, seen)
        return self.processes.mean(losses)

    def _gathered(self, latents: Tensor, made: int) -> Tensor:
        """Latents of all processes, ordered as in a single process: generated images first."""
        parts = (latents[:made], latents[made:])
        return torch.cat([self.processes.gather(part) for part in parts])

    def _set_stage(self, seen: int) -> None:
        self.stage = None if self.spec.e4e is None else self.spec.e4e.stage(seen)
        self.encoder.progressive_stage = self.average.progressive_stage = self.stage

    def _latent_losses(self, latents: Tensor, true_latents: Tensor) -> dict[str, Tensor]:
        """Losses on the accumulated latents [B, n, style_dim], by name."""
        weights, editable = self.spec.losses, self.spec.e4e
        losses = {}
        if weights.latent and len(true_latents):
            error = F.mse_loss(latents[: len(true_latents)], true_latents)
            losses["latent"] = weights.latent * error
        if weights.w_norm:
            distance = (latents - self.latent_avg).flatten(1).norm(dim=1).mean()
            losses["w_norm"] = weights.w_norm * distance
        if editable is not None:
            losses["delta_norm"] = editable.delta_norm * delta_norm(latents)
        if editable is not None and self.adversary is not None:
            loss = self.adversary.encoder_loss(self._predicted_styles(latents))
            losses["adversarial"] = editable.adversarial * loss
        return losses

    def _predicted_styles(self, latents: Tensor) -> Tensor:
        """Styles that the progressive stage predicts; the remaining ones equal w0."""
        return latents if self.stage is None else latents[:, : self.stage + 1]

    @torch.no_grad()
    def _sampled_w(self, latents: Tensor) -> Tensor:
        """Sample from the mapping network as many w as styles are predicted."""
        count = self._predicted_styles(latents).flatten(0, 1).shape[0]
        return self.generator.mapping(torch.randn(count, self.generator.config.z_dim))

    def _update(self, seen: int) -> None:
        """Update the encoder from the accumulated gradients and clear them."""
        spec = self.spec
        rate = cosine_decay(seen / spec.schedule.images, spec.optimizer.decay_from)
        rate *= min(1.0, (seen + spec.schedule.batch) / max(1, spec.optimizer.warmup))
        for group in self.optimizer.param_groups:
            group["lr"] = spec.optimizer.lr * rate
        self.processes.average_gradients(self.encoder.parameters())
        nn.utils.clip_grad_norm_(self.encoder.parameters(), spec.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _encode(self, encoder: nn.Module, images: Tensor, current: Tensor) -> Tensor:
        seen = torch.cat([images, current], dim=1) if self.spec.iterative else images
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            residual: Tensor = encoder(seen.contiguous(memory_format=torch.channels_last))
        return residual.float()

    def _render(self, latents: Tensor) -> Tensor:
        """Latents [B, n, style_dim] -> images [B, 3, h, w] at the size of the crops."""
        side = self.crops.images.shape[-1]
        images: Tensor = self.generator.synthesis(latents)
        return images if images.shape[-1] == side else F.adaptive_avg_pool2d(images, side)

    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images [B, 3, h, w], their targets, and the latents [K, n, style_dim] of the first K.

        The first K images are generated. Each process gets its share of both kinds.
        """
        spec, batch = self.spec, self.spec.schedule.batch
        made = round(batch * spec.synthetic)
        indices = batch_indices(len(self.crops), batch - made, self.step, spec.schedule.seed)
        share = self.processes.share
        flipped = share(torch.rand(len(indices)) < 0.5)[:, None, None, None]
        indices = share(indices)
        real, wanted = self.crops.batch(indices), self.crops.target_batch(indices)
        if spec.mirror:
            real, wanted = (torch.where(flipped, each.flip(3), each) for each in (real, wanted))
        with torch.no_grad():
            w = self.generator.mapping(share(torch.randn(made, self.generator.config.z_dim)))
            latents = w[:, None].expand(-1, self.generator.config.n_styles, -1)
            generated = self._render(latents).clamp(-1, 1)
        return torch.cat([generated, real]), torch.cat([generated, wanted]), latents

    @torch.no_grad()
    def write_samples(self, seen: int) -> None:
        """A grid: one row of inputs, then one row per refinement step."""
        images = self.crops.batch(torch.arange(min(_GRID, len(self.crops))))
        count = len(images)
        rows = [images, *self._reconstructions(images, seen)]
        self.journal.write_grid(torch.cat(rows), count, seen)

    def _validate(self, seen: int) -> None:
        """Evaluate the averaged weights on the validation images and keep the best."""
        if self.validator is None:
            return
        losses = self.validator.evaluate(
            lambda images: self._reconstructions(images, seen)[-1], self.networks, self.dtype
        )
        best = {"average": self.average.state_dict(), "latent_avg": self.latent_avg}
        self.validator.record(seen, losses, best)

    @torch.no_grad()
    def _reconstructions(self, images: Tensor, seen: int) -> list[Tensor]:
        """Reconstructions of images [B, 3, h, w] by the averaged encoder after each step."""
        self._set_stage(seen)
        latents = self.latent_avg.expand(len(images), -1, -1)
        rows, current = [], self.average_image.expand(len(images), -1, -1, -1)
        for _ in range(self.spec.steps if self.spec.iterative else 1):
            latents = latents + self._encode(self.average, images, current)
            current = self._render(latents)
            rows.append(current)
        return rows


def delta_norm(latents: Tensor) -> Tensor:
    """Distance of style vectors to the first one (2102.02766, section 4.2), a scalar.

    Args:
        latents: [B, n_styles, style_dim].

    Returns:
        The mean over images of the sum over styles of ``|w_i - w_0|``.
    """
    distances: Tensor = (latents[:, 1:] - latents[:, :1]).norm(dim=2)
    return distances.sum(dim=1).mean()
