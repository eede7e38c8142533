"""The specification of a generator's training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from restyle.core.training.spec import (
    Count,
    Fraction,
    Positive,
    Section,
    TrainingSpec,
    Weight,
    located,
)


class GeneratorShape(Section):
    """Widths of each resolution from 4x4 up, and the mapping network."""

    widths: tuple[Count, ...] = Field(min_length=4)
    style_dim: Count = 512
    z_dim: Count = 512
    mapping_layers: Count = 8


class Distillation(Section):
    """Weights of the losses against the teacher's image of the same z.

    Attributes:
        pixels: L1 at full, half and quarter size.
        lpips: LPIPS (1801.03924) with AlexNet.
        identity: relative L1 of the face recognition network's feature maps; 0 also removes the
            adversarial heads on them.
    """

    pixels: Weight = 1.0
    lpips: Weight = 0.5
    identity: Weight = 0.5


class Adversarial(Section):
    """Hinge loss of small heads on frozen features (Projected GANs, 2111.01007).

    Attributes:
        weight: of the generator's adversarial loss.
        from_image: images seen before the heads are trained and used.
        free: share of each batch with a random z that has no target.
        lr: learning rate of the heads.
    """

    weight: Weight = 0.1
    from_image: Annotated[int, Field(ge=0)] = 30_000
    free: Fraction = 0.25
    lr: Positive = 1e-3


class GeneratorOptimizer(Section):
    """Adam with a learning rate that falls to zero at the end of the run.

    Attributes:
        lr: learning rate; equalized layers need a large one.
        mapping_factor: factor on the mapping network's rate. Its equalized scale of 0.01 suits
            runs of millions of images; in a short run the network would hardly change.
        betas: of Adam.
        decay_from: share of the run after which the rate falls along a cosine.
        ema_half_life: half-life of the weight average in images.
    """

    lr: Positive = 8e-3
    mapping_factor: Positive = 1.0
    betas: tuple[Fraction, Fraction] = (0.5, 0.99)
    decay_from: Fraction = 0.7
    ema_half_life: Positive = 1_500


class GanLosses(Section):
    """StyleGAN2's training on images alone (1912.04958), with adaptive augmentation (2006.06676).

    Attributes:
        r1: weight of the gradient penalty on real images.
        r1_every: steps between two penalties; each is weighted for all of them.
        path_length: weight of path length regularisation; 0 for none.
        path_every: steps between two of its penalties.
        mixing: share of generated images whose styles come from two w.
        widths: channels of the discriminator from 4x4 up; the generator's when None.
        lr: Adam's rate for the discriminator; the generator's when None.
        augment: mean sign of the discriminator's logits on real images to which the probability
            of augmentation is adjusted; 0 for no augmentation.
        augment_images: images over which that probability can rise from 0 to 1.
        mirror: whether mirrored images belong to the domain.
    """

    r1: Weight = 1.0
    r1_every: Count = 16
    path_length: Weight = 2.0
    path_every: Count = 4
    mixing: Fraction = 0.9
    widths: tuple[Count, ...] | None = None
    lr: Positive | None = None
    augment: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.6
    augment_images: Count = 100_000
    mirror: bool = True


class GeneratorSpec(TrainingSpec):
    """``restyle train generator``: by distillation, or with ``[gan]`` on images alone.

    Attributes:
        parent: initial generator: an embedded model's name, a model directory, the folder of a
            training run or a generator file; random weights when None.
        keep_mapping: whether the parent's mapping network is frozen, so that both generators share
            one latent space.
        generator: the shape; the parent's when None.
        distillation: weights of the losses against the images that belong to a z or a latent.
        adversarial: settings of the adversarial heads.
        gan: train on images alone instead; crops then need neither z nor latents.
        optimizer: settings of the optimizer.
    """

    parent: str | None = None
    keep_mapping: bool = False
    generator: GeneratorShape | None = None
    distillation: Distillation = Distillation()
    adversarial: Adversarial = Adversarial()
    gan: GanLosses | None = None
    optimizer: GeneratorOptimizer = GeneratorOptimizer()

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if (self.parent is None) == (self.generator is None):
            raise ValueError(
                "name either a parent to start from or the shape of a new one in [generator]"
            )
        if self.keep_mapping and self.parent is None:
            raise ValueError("keep_mapping needs a parent whose mapping network could be kept")
        return self

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        if self.gan is not None and self.model_fields_set & {"distillation", "adversarial"}:
            raise ValueError("[gan] goes without [distillation] and [adversarial]")
        return self

    def anchored(self, folder: Path) -> Self:
        """The specification with relative paths resolved against a folder.

        Raises:
            SpecError: a file does not exist.
        """
        anchored = super().anchored(folder)
        if self.parent is None:
            return anchored
        return anchored.model_copy(update={"parent": located(folder, self.parent)})
