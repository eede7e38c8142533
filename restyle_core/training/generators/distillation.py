"""Distil a StyleGAN2 generator from pairs of latents and images.

Paired losses fit the student to the teacher's image of each z. Adversarial heads on frozen features
then restore the detail that an L1 loss blurs, and also train on z without a target.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.core.checkpoints.conversion import load_generator
from restyle.core.checkpoints.directory import read_model
from restyle.core.checkpoints.weights import assemble_generator, expand_average
from restyle.core.errors import SpecError
from restyle.core.faces.alignment import Framing
from restyle.core.faces.recognition import chips_from_crops, load_face_embedder
from restyle.core.metrics.lpips import load_lpips
from restyle.core.networks.config import MODEL_FILE, embedded_models
from restyle.core.networks.generator import Generator, GeneratorConfig
from restyle.core.training.crops import batch_indices
from restyle.core.training.generators.heads import FeatureHeads
from restyle.core.training.generators.spec import GeneratorSpec
from restyle.core.training.journal import Journal
from restyle.core.training.loop import Trainer
from restyle.core.training.processes import Processes
from restyle.core.training.schedule import cosine_decay, update_average
from restyle.core.training.spec import Schedule

_GRID = 64


class FrozenFeatures:
    """Feature maps of two frozen networks: LPIPS and, optionally, face recognition."""

    def __init__(self, framing: Framing, dtype: torch.dtype, *, identity: bool = True) -> None:
        self.perceptual = load_lpips().requires_grad_(False)
        self.recognition = load_face_embedder().requires_grad_(False) if identity else None
        self.framing = framing
        self.dtype = dtype

    def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Images [B, 3, S, S] -> (LPIPS maps, recognition maps; empty without recognition)."""
        with self.precision():
            perceptual = self.perceptual.features(images)
            if self.recognition is None:
                return perceptual, []
            recognition = self.recognition.features(chips_from_crops(images, self.framing))
        return perceptual, recognition

    def precision(self) -> torch.autocast:
        """Autocast context of the feature networks and of the heads on their features."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16)


class GeneratorTrainer(Trainer):
    """One run of ``restyle train generator``.

    Args:
        spec: of the run.
        folder: the run's folder; a checkpoint in it is continued.
    """

    def __init__(self, spec: GeneratorSpec, folder: Path) -> None:
        self.spec = spec
        self.processes = Processes.join()
        free = self._free(spec.schedule.images)
        self.processes.check({"free": free, "paired": spec.schedule.batch - free})
        self._begin(spec, folder, generator_config(spec).size)
        self.generator, self.average = new_generator(spec), new_generator(spec)
        self.generator.dtype = self.dtype
        self.average.load_state_dict(self.generator.state_dict())
        self.average.requires_grad_(False)
        self._check_crops()
        framing = Framing(spec.framing_scale, spec.framing_shift)
        self.features = FrozenFeatures(framing, self.dtype, identity=spec.distillation.identity > 0)
        with torch.no_grad():
            perceptual, recognition = self.features(
                self.crops.batch(torch.arange(min(64, len(self.crops))))
            )
        # Creating the frozen networks draws random numbers, but only the first time in a process.
        torch.manual_seed(spec.schedule.seed)
        self.heads = FeatureHeads([*perceptual, *recognition])
        optimizer = spec.optimizer
        mapping = list(self.generator.style.parameters())
        synthesis = list(self.generator.parameters())[len(mapping) :]
        self.generator.style.requires_grad_(not spec.keep_mapping)
        self.optimizer = torch.optim.Adam(
            [
                {"params": mapping, "factor": optimizer.mapping_factor},
                {"params": synthesis, "factor": 1.0},
            ],
            optimizer.lr,
            optimizer.betas,
            fused=True,
        )
        self.heads_optimizer = torch.optim.Adam(
            self.heads.parameters(), spec.adversarial.lr, (0.0, 0.99), fused=True
        )
        self._resume()

    def _check_crops(self) -> None:
        config, crops = self.generator.config, self.crops
        if crops.images.shape[-1] != config.size:
            raise SpecError(
                f"the crops are {crops.images.shape[-1]} pixels wide, the generator's {config.size}"
            )
        if crops.latents is not None:
            wanted = (config.n_styles, config.style_dim)
            if tuple(crops.latents.shape[1:]) != wanted:
                raise SpecError(f"the crops' latents are no {wanted[0]} styles of {wanted[1]}")
        elif crops.z.shape[1] != config.z_dim:
            raise SpecError(f"the crops carry no z of {config.z_dim} numbers each")

    def _latents(self, indices: Tensor) -> Tensor:
        """The latents [B, n_styles, style_dim] of crops."""
        if self.crops.latents is not None:
            return self.crops.latents[indices].float()
        return self._mapped(self.crops.z[indices])

    def _mapped(self, z: Tensor) -> Tensor:
        return self.generator.mapping(z)[:, None].expand(-1, self.generator.config.n_styles, -1)

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "average": self.average,
            "heads": self.heads,
            "optimizer": self.optimizer,
            "heads_optimizer": self.heads_optimizer,
        }

    @property
    def schedule(self) -> Schedule:
        """Length of the run and the intervals of its outputs."""
        return self.spec.schedule

    def train_step(self) -> dict[str, Tensor]:
        """One update of the generator and, from ``adversarial.from_image`` on, of the heads."""
        spec, batch = self.spec, self.spec.schedule.batch
        self._seed_step()
        seen = self.step * batch
        rate = cosine_decay(seen / spec.schedule.images, spec.optimizer.decay_from)
        whole = batch - self._free(seen)
        share = self.processes.share
        indices = share(batch_indices(len(self.crops), whole, self.step, spec.schedule.seed))
        target, paired = self.crops.batch(indices), len(indices)
        free = self._mapped(share(torch.randn(batch - whole, self.generator.config.z_dim)))
        latents = torch.cat([self._latents(indices), free])
        noise = [
            torch.cat([share(each[:whole]), share(each[whole:])])
            for each in self.generator.fresh_noise(batch)
        ]
        fake = self.generator.synthesis(latents, noise)

        with torch.no_grad():
            real_features = self.features(target)
        fake_features = self.features(fake)
        losses = self._distillation(fake[:paired], target, fake_features, real_features)
        total = torch.stack(list(losses.values())).sum()
        if self._adversarial(seen):
            real_maps = [*real_features[0], *real_features[1]]
            fake_maps = [*fake_features[0], *fake_features[1]]
            losses["heads"] = self._update_heads(real_maps, fake_maps, rate)
            with self.features.precision():
                losses["adversarial"] = spec.adversarial.weight * self.heads.generator_loss(
                    fake_maps
                )
            total = total + losses["adversarial"]
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.processes.average_gradients(self.generator.parameters())
        for group in self.optimizer.param_groups:
            group["lr"] = spec.optimizer.lr * rate * group["factor"]
        self.optimizer.step()
        update_average(self.average, self.generator, batch, spec.optimizer.ema_half_life, seen)
        return self.processes.mean(losses)

    def _adversarial(self, seen: int) -> bool:
        return self.spec.adversarial.weight > 0 and seen >= self.spec.adversarial.from_image

    def _free(self, seen: int) -> int:
        """Number of z without a target in a batch."""
        share = self.spec.adversarial.free if self._adversarial(seen) else 0.0
        return round(self.schedule.batch * share)

    def _distillation(
        self,
        fake: Tensor,
        target: Tensor,
        fake_features: tuple[list[Tensor], list[Tensor]],
        real_features: tuple[list[Tensor], list[Tensor]],
    ) -> dict[str, Tensor]:
        weights, paired = self.spec.distillation, len(fake)
        pixels = torch.stack(
            [F.l1_loss(F.avg_pool2d(fake, k), F.avg_pool2d(target, k)) for k in (1, 2, 4)]
        ).sum()
        fake_perceptual = [map_[:paired] for map_ in fake_features[0]]
        perceptual = self.features.perceptual.distance(fake_perceptual, real_features[0]).mean()
        losses = {"pixels": weights.pixels * pixels, "lpips": weights.lpips * perceptual}
        identity = [
            F.l1_loss(of_fake[:paired].float(), of_real.float()) / self._size(of_real)
            for of_fake, of_real in zip(fake_features[1], real_features[1], strict=True)
        ]
        if identity:
            losses["identity"] = weights.identity * torch.stack(identity).mean()
        return losses

    def _size(self, features: Tensor) -> Tensor:
        """Mean absolute value of feature maps [B, C, h, w] over the batch of all processes."""
        return self.processes.mean({"size": features.float().abs().mean()})["size"]

    def _update_heads(self, real: list[Tensor], fake: list[Tensor], rate: float) -> Tensor:
        with self.features.precision():
            loss = self.heads.discriminator_loss(real, fake)
        self.heads_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.processes.average_gradients(self.heads.parameters())
        for group in self.heads_optimizer.param_groups:
            group["lr"] = self.spec.adversarial.lr * rate
        self.heads_optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def write_samples(self, seen: int) -> None:
        """Write a grid: targets, the average's images of the same latents, and of other z."""
        half = _GRID // 2
        paired = self.average.synthesis(self._latents(torch.arange(half)))
        source = torch.Generator().manual_seed(1)
        free = self.average(torch.randn(half, self.generator.config.z_dim, generator=source))
        targets = self.crops.batch(torch.arange(half))
        self.journal.write_grid(torch.cat([targets, paired, free]), 16, seen)


def new_generator(spec: GeneratorSpec) -> Generator:
    """The generator at the start of training: the parent, or a new one of the given shape."""
    if spec.parent is not None:
        return load_trained_generator(spec.parent)[0].requires_grad_(True).train()
    return Generator(generator_config(spec))


def generator_config(spec: GeneratorSpec) -> GeneratorConfig:
    """The shape of the generator to train."""
    if spec.generator is not None:
        return GeneratorConfig(**spec.generator.model_dump())
    return load_trained_generator(str(spec.parent))[0].config


def load_trained_generator(source: str | Path) -> tuple[Generator, Tensor]:
    """The frozen generator that an encoder is trained against.

    Args:
        source: the folder of a generator's training run, a generator file, a model directory or
            an embedded model's name.

    Returns:
        (generator, latent_avg [n_styles, style_dim]).
    """
    path = Path(source)
    model = embedded_models().get(str(source), path)
    average: Tensor | None
    if (model / MODEL_FILE).is_file():
        weights = read_model(model)[1]
        generator = assemble_generator(weights.generator, str(source))
        average = weights.encoders[weights.default_encoder].latent_avg
    elif (path / "checkpoint.pt").is_file():
        state = Journal.read_checkpoint(path / "checkpoint.pt")["average"]
        generator = Generator(GeneratorConfig.from_state(state))
        generator.load_state_dict(state)
        average = None
    elif path.is_file():
        generator, average = load_generator(path)
    else:
        raise SpecError(
            f"{path} holds no generator; name a training run, a generator file or a model"
        )
    generator.requires_grad_(False).eval()
    latent_avg = generator.mean_latent(50_000) if average is None else average
    return generator, expand_average(latent_avg, generator.config.n_styles, str(path)).clone()
