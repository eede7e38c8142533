"""The specification of an encoder's training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from restyle.core.errors import SpecError
from restyle.core.networks.config import EncoderKind
from restyle.core.training.spec import (
    Count,
    Fraction,
    Positive,
    Section,
    TrainingSpec,
    Weight,
    existing,
    located,
)

# Default widths and depths of each backbone's stages.
_SIZES = {
    "small": {"widths": (48, 96, 160, 256), "depths": (2, 3, 2, 1)},
    "ir-se50": {"widths": (64, 128, 256, 512), "depths": (3, 4, 14, 3)},
    "resnet34": {"widths": (64, 128, 256, 512), "depths": (3, 4, 6, 3)},
}
_SMALL_FINE_WIDTH = 192

# By backbone and head (pSp or e4e): the kinds for iterative refinement and for a single pass.
_KINDS = {
    "small": {
        "psp": (EncoderKind.SMALL_BACKBONE, EncoderKind.SMALL_BACKBONE),
        "e4e": (EncoderKind.SMALL_PROGRESSIVE_BACKBONE, EncoderKind.SMALL_PROGRESSIVE_BACKBONE),
    },
    "ir-se50": {
        "psp": (EncoderKind.BACKBONE, EncoderKind.GRADUAL_STYLE),
        "e4e": (EncoderKind.PROGRESSIVE_BACKBONE, EncoderKind.ENCODER4EDITING),
    },
    "resnet34": {
        "psp": (EncoderKind.RESNET_BACKBONE, EncoderKind.RESNET_GRADUAL_STYLE),
        "e4e": (
            EncoderKind.RESNET_PROGRESSIVE_BACKBONE,
            EncoderKind.RESNET_PROGRESSIVE_BACKBONE,
        ),
    },
}


class EncoderLosses(Section):
    """Weights of the encoder's losses (ReStyle, 2104.02699, section 4; pSp, 2008.00951).

    Attributes:
        l2: mean squared error of pixels.
        lpips: LPIPS with AlexNet.
        identity: one minus the cosine of face embeddings.
        identity_share: share of the steps that compute the identity loss, the costliest one; its
            weight is divided by the share, so that the expected loss stays the same.
        latent: mean squared error to the true w of generated images.
        w_norm: distance of the latent to the average latent.
    """

    l2: Weight = 1.0
    lpips: Weight = 0.8
    identity: Weight = 0.1
    identity_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    latent: Weight = 0.0
    w_norm: Weight = 0.0


class EditableLosses(Section):
    """Losses and stages that keep e4e's latents close to W (2102.02766, section 4).

    Lengths are in images; the defaults are the paper's steps of eight images.

    Attributes:
        delta_norm: weight of the sum over styles of their distance to w0.
        adversarial: weight of the loss against the latent discriminator; 0 trains none.
        discriminator_lr: Adam's rate for the discriminator.
        r1: weight of the gradient penalty on real w.
        r1_every: steps between two penalties; each is weighted for all of them.
        pool: size of the pool of fake w of earlier steps.
        stages_from: images before style 1 gets a difference to w0; until then all styles are w0.
        stage_every: images until each next style gets one.
    """

    delta_norm: Weight = 2e-4
    adversarial: Weight = 0.1
    discriminator_lr: Positive = 2e-5
    r1: Weight = 10.0
    r1_every: Count = 16
    pool: Annotated[int, Field(ge=0)] = 50
    stages_from: Annotated[int, Field(ge=0)] = 160_000
    stage_every: Annotated[int, Field(ge=0)] = 16_000

    def stage(self, seen: int) -> int | None:
        """Index of the last style that has a difference to w0; None for all.

        Args:
            seen: images seen before this step.
        """
        if seen < self.stages_from:
            return 0
        return None if self.stage_every == 0 else 1 + (seen - self.stages_from) // self.stage_every


class Validation(Section):
    """Losses of the averaged weights on images outside of the training set.

    Attributes:
        crops: files and folders, as for training.
        images: number of images; the first ones are taken.
        every: images seen between two validations.
    """

    crops: tuple[Path, ...] = Field(min_length=1)
    images: Count = 256
    every: Count = 8_000


class EncoderOptimizer(Section):
    """Ranger: rectified Adam with lookahead and gradient centralization.

    Attributes:
        lr: learning rate.
        betas: of Adam.
        eps: of Adam.
        warmup: images over which the rate rises linearly.
        decay_from: share of the run after which the rate falls along a cosine.
        update: update once per ``batch``, as in the paper, or after every refinement ``step``.
        clip: largest norm of the gradient.
        ema_half_life: half-life of the weight average in images; 0 for no averaging.
    """

    lr: Positive = 1e-4
    betas: tuple[Fraction, Fraction] = (0.95, 0.999)
    eps: Positive = 1e-5
    warmup: Annotated[int, Field(ge=0)] = 0
    decay_from: Fraction = 0.7
    update: Literal["batch", "step"] = "batch"
    clip: Positive = 10.0
    ema_half_life: Weight = 0


class EncoderSpec(TrainingSpec):
    """``restyle train encoder``: ReStyle or single-pass, over pSp or e4e, for one generator.

    Attributes:
        generator: the decoder: the folder of a generator's training run, a generator file, a model
            directory or an embedded model's name.
        init: initial weights: a model (with ``:ENCODER`` where it has several), the folder of an
            encoder's training run, a published checkpoint, or a file of the backbone alone; random
            ones when None.
        backbone: of the encoder: ``small``, or one of the published ones.
        widths: channels of the backbone's four stages; the backbone's default unless given.
        depths: units of the four stages; the backbone's default unless given.
        fine_width: channels of the small backbone's feature map for fine styles.
        steps: most refinement steps of a batch; a single-pass encoder ignores it.
        min_steps: fewest refinement steps; each batch draws its number between the two.
        iterative: ReStyle (six input channels) or a single pass (three).
        synthetic: share of generated images in each batch.
        mirror: whether half of the images are flipped left to right.
        losses: weights of the losses.
        e4e: trains e4e's encoder, which predicts w0 and differences to it; pSp's when None.
        optimizer: settings of the optimizer.
        validation: images that choose the best weights; none are chosen when None.
    """

    generator: str
    init: str | None = None
    backbone: Literal["small", "ir-se50", "resnet34"] = "small"
    widths: tuple[Count, Count, Count, Count]
    depths: tuple[Count, Count, Count, Count]
    fine_width: Count = _SMALL_FINE_WIDTH
    steps: Count = 5
    min_steps: Count = 5
    iterative: bool = True
    synthetic: Fraction = 0.0
    mirror: bool = True
    losses: EncoderLosses = EncoderLosses()
    e4e: EditableLosses | None = None
    optimizer: EncoderOptimizer = EncoderOptimizer()
    validation: Validation | None = None

    @model_validator(mode="after")
    def _steps_in_order(self) -> Self:
        if self.iterative and self.min_steps > self.steps:
            raise ValueError(f"min_steps is {self.min_steps}, more than the {self.steps} of steps")
        return self

    @model_validator(mode="before")
    @classmethod
    def _usual_size(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return _SIZES.get(str(values.get("backbone", "small")), {}) | values

    @model_validator(mode="after")
    def _shape_fits_backbone(self) -> Self:
        if self.backbone == "small":
            if any(width % 16 for width in (*self.widths, self.fine_width)):
                raise ValueError("widths and fine_width must be multiples of 16")
        elif self.fine_width != _SMALL_FINE_WIDTH:
            raise ValueError("fine_width can only be chosen for the small backbone")
        elif len(set(self.widths)) < len(self.widths):
            raise ValueError("the four widths must differ")
        return self

    @property
    def kind(self) -> EncoderKind:
        """The encoder's architecture."""
        refining, single = _KINDS[self.backbone]["psp" if self.e4e is None else "e4e"]
        return refining if self.iterative else single

    def anchored(self, folder: Path) -> Self:
        """The specification with relative paths resolved against a folder.

        Raises:
            SpecError: a file does not exist.
        """
        found: dict[str, object] = {
            key: located(folder, value)
            for key, value in (("generator", self.generator), ("init", self.init))
            if value is not None
        }
        anchored = super().anchored(folder)
        if self.validation is not None:
            held = tuple(existing(folder, path) for path in self.validation.crops)
            if shared := {path.resolve() for path in held} & {
                path.resolve() for path in anchored.crops
            }:
                raise SpecError(
                    f"{min(shared)} is among the crops of both training and validation; "
                    "what is trained on says nothing about other images"
                )
            found["validation"] = self.validation.model_copy(update={"crops": held})
        return anchored.model_copy(update=found)
