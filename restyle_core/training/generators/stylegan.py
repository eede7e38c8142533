"""Train a StyleGAN2 generator on images alone (Karras et al., 1912.04958).

The losses are the non-saturating one with R1 on the discriminator and path length regularisation
on the generator, both lazy (section 3.1). Adaptive augmentation of the discriminator's input
(2006.06676) allows training on a few thousand images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.errors import SpecError
from restyle.core.training.crops import batch_indices
from restyle.core.training.generators.augmentation import AdaptiveAugmentation
from restyle.core.training.generators.discriminator import Discriminator, group_size
from restyle.core.training.generators.distillation import generator_config, new_generator
from restyle.core.training.generators.spec import GeneratorSpec
from restyle.core.training.loop import Trainer
from restyle.core.training.processes import Processes
from restyle.core.training.schedule import cosine_decay, update_average
from restyle.core.training.spec import Schedule

_GRID = 64
_PATH_MEAN_DECAY = 0.01


class PathLength(nn.Module):
    """Path length regularisation (1912.04958, section 3.2), with a running mean of the lengths.

    The penalty makes a step of fixed length in W change the image by a fixed amount.

    Args:
        processes: the processes that share each batch.
    """

    mean: Tensor

    def __init__(self, processes: Processes | None = None) -> None:
        super().__init__()
        self._processes = processes or Processes()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, images: Tensor, latents: Tensor) -> Tensor:
        """The penalty, a scalar; differentiable with respect to the generator's parameters.

        Args:
            images: [B, 3, S, S], rendered from the latents.
            latents: [B, n_styles, style_dim], part of the graph.
        """
        whole = torch.randn(len(images) * self._processes.count, *images.shape[1:])
        directions = self._processes.share(whole) / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * directions).sum(), latents, create_graph=True)
        lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
        self.mean.lerp_(self._processes.gather(lengths.detach()).mean(), _PATH_MEAN_DECAY)
        return (lengths - self.mean).square().mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """R1 (Mescheder et al., 1801.04406): half the squared gradient norm on real images.

    Args:
        logits: [B], computed from the images.
        images: [B, 3, S, S], part of the graph.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()


class StyleGanTrainer(Trainer):
    """One run of ``restyle train generator`` with a ``[gan]`` section.

    Args:
        spec: of the run.
        folder: the run's folder; a checkpoint in it is continued.
    """

    def __init__(self, spec: GeneratorSpec, folder: Path) -> None:
        if spec.gan is None:
            raise SpecError(f"{spec.name} has no [gan] section")
        self.spec, self.gan = spec, spec.gan
        self.processes = Processes.join()
        self.config = generator_config(spec)
        self._begin(spec, folder, self.config.size)
        self._check()
        self.generator, self.average = new_generator(spec), new_generator(spec)
        self.generator.dtype = self.dtype
        self.generator.style.requires_grad_(not spec.keep_mapping)
        self.average.load_state_dict(self.generator.state_dict())
        self.average.requires_grad_(False)
        self.discriminator = Discriminator(self.gan.widths or self.config.widths)
        self.augmentation = AdaptiveAugmentation(
            self.gan.augment,
            self.gan.augment_images,
            mirror=self.gan.mirror,
            processes=self.processes,
        )
        self.path_length = PathLength(self.processes)
        self.optimizer = _adam(self.generator.parameters(), self.gan.path_every)
        self.discriminator_optimizer = _adam(self.discriminator.parameters(), self.gan.r1_every)
        self._resume()

    def _check(self) -> None:
        side, found = self.config.size, self.crops.images.shape[-1]
        if found != side:
            raise SpecError(f"the crops are {found} pixels wide, the generator's images {side}")
        if self.gan.widths is not None and len(self.gan.widths) != len(self.config.widths):
            raise SpecError(f"gan.widths must be {len(self.config.widths)}, one per resolution")
        batch = self.schedule.batch
        parts = {"groups of images": batch // group_size(batch)}
        if self.gan.path_length:
            parts["images of path length regularisation"] = self._path_batch
        self.processes.check(parts)

    @property
    def _path_batch(self) -> int:
        return max(1, self.schedule.batch // 2)

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "average": self.average,
            "discriminator": self.discriminator,
            "augmentation": self.augmentation,
            "path_length": self.path_length,
            "optimizer": self.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    @property
    def schedule(self) -> Schedule:
        """Length of the run and the intervals of its outputs."""
        return self.spec.schedule

    def train_step(self) -> dict[str, Tensor]:
        """One update of the discriminator, then one of the generator."""
        self._seed_step()
        seen = self.step * self.schedule.batch
        self._set_rates(cosine_decay(seen / self.schedule.images, self.spec.optimizer.decay_from))
        losses = self._train_discriminator() | self._train_generator()
        update_average(
            self.average,
            self.generator,
            self.schedule.batch,
            self.spec.optimizer.ema_half_life,
            seen,
        )
        losses["augmentation"] = self.augmentation.probability.clone()
        return self.processes.mean(losses)

    def _set_rates(self, rate: float) -> None:
        lr = self.spec.optimizer.lr
        pairs = (
            (self.optimizer, lr, self.gan.path_every),
            (self.discriminator_optimizer, self.gan.lr or lr, self.gan.r1_every),
        )
        for optimizer, base, every in pairs:
            for group in optimizer.param_groups:
                group["lr"] = base * rate * _lazy_share(every)

    def _train_discriminator(self) -> dict[str, Tensor]:
        batch = self.schedule.batch
        indices = batch_indices(len(self.crops), batch, self.step, self.schedule.seed)
        real = self.augmentation(self.crops.batch(self.processes.share(indices)))
        with torch.no_grad():
            fake = self.augmentation(self._render(self._latents(batch)))
        real_logits, fake_logits = self._logits(real), self._logits(fake)
        loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        losses = {"discriminator": loss.detach()}
        if self.step % self.gan.r1_every == 0:
            # In float32, because squares of gradients are small.
            seen = real.detach().requires_grad_(True)
            penalty = gradient_penalty(self.discriminator(seen), seen)
            loss = loss + self.gan.r1 * self.gan.r1_every * penalty
            losses["r1"] = penalty.detach()
        self._update(self.discriminator_optimizer, loss)
        self.augmentation.adapt(real_logits)
        return losses

    def _train_generator(self) -> dict[str, Tensor]:
        batch = self.schedule.batch
        self.discriminator.requires_grad_(False)
        fake = self.augmentation(self._render(self._latents(batch)))
        loss = F.softplus(-self._logits(fake)).mean()
        losses = {"generator": loss.detach()}
        if self.gan.path_length and self.step % self.gan.path_every == 0:
            latents = self._latents(self._path_batch)
            if not latents.requires_grad:
                latents.requires_grad_(True)
            penalty = self.path_length(self._render(latents), latents)
            loss = loss + self.gan.path_length * self.gan.path_every * penalty
            losses["path_length"] = penalty.detach()
        self._update(self.optimizer, loss)
        self.discriminator.requires_grad_(True)
        return losses

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            self.processes.average_gradients(group["params"])
        optimizer.step()

    def _latents(self, count: int) -> Tensor:
        """Latents [B, n_styles, style_dim], part of them mixed from two w.

        Args:
            count: number for all processes; each gets its share.
        """
        styles, share = self.config.n_styles, self.processes.share
        z = torch.randn(2 * count, self.config.z_dim)
        first, second = (self.generator.mapping(share(half))[:, None] for half in z.chunk(2))
        crossover = share(
            torch.where(
                torch.rand(count) < self.gan.mixing, torch.randint(1, styles, (count,)), styles
            )
        )
        from_first = torch.arange(styles)[None] < crossover[:, None]
        return torch.where(from_first[..., None], first, second)

    def _render(self, latents: Tensor) -> Tensor:
        noise = self.generator.fresh_noise(len(latents) * self.processes.count)
        return self.generator.synthesis(latents, [self.processes.share(each) for each in noise])

    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            logits: Tensor = self.discriminator(images)
        return logits

    @torch.no_grad()
    def write_samples(self, seen: int) -> None:
        """Write a grid of the averaged generator's images of fixed z."""
        source = torch.Generator().manual_seed(1)
        z = torch.randn(_GRID, self.config.z_dim, generator=source)
        self.journal.write_grid(self.average(z), 8, seen)


def _lazy_share(every: int) -> float:
    """Factor on Adam's rate and betas' exponents for a lazy regulariser (1912.04958, app. B)."""
    return every / (every + 1)


def _adam(parameters: Iterable[nn.Parameter], every: int) -> torch.optim.Adam:
    """Adam with beta1 0 and beta2 0.99, adapted to a regulariser computed every ``every`` steps."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.Adam(trained, 1e-3, (0.0, 0.99 ** _lazy_share(every)), eps=1e-8)
