"""Training specifications: typed TOML, checked before anything starts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from restyle_core.errors import SpecError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Weight = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Section):
    """How long a run is and what it writes on the way; lengths count images seen.

    Attributes:
        images: length of the run.
        batch: images per step.
        checkpoint_every: images between two checkpoints.
        sample_every: images between two sample grids.
        log_every: images between two lines of the loss log.
        seed: fixes every random number of the run; a resumed run equals an uninterrupted one.
        dtype: of activations; parameters are always float32.
        threads: CPU threads; 0 takes what torch takes.
    """

    images: Count
    batch: Count = 16
    checkpoint_every: Count = 8_000
    sample_every: Count = 8_000
    log_every: Count = 800
    seed: int = 0
    dtype: Literal["fp32", "bf16"] = "bf16"
    threads: Annotated[int, Field(ge=0)] = 0


class GeneratorShape(_Section):
    """Widths of each resolution from 4x4 up, and the mapping network."""

    widths: tuple[Count, ...] = Field(min_length=4)
    style_dim: Count = 512
    z_dim: Count = 512
    mapping_layers: Count = 8


class Distillation(_Section):
    """Weights of the losses against the teacher's image of the same z.

    Attributes:
        pixels: L1 at full, half and quarter size.
        lpips: LPIPS (1801.03924) with AlexNet.
        identity: relative L1 of the face recognition network's feature maps.
    """

    pixels: Weight = 1.0
    lpips: Weight = 0.5
    identity: Weight = 0.5


class Adversarial(_Section):
    """Hinge loss of small heads on frozen features (Projected GANs, 2111.01007).

    Attributes:
        weight: of the generator's adversarial loss.
        from_image: images seen before the heads begin to train and count.
        free: share of each batch whose z is drawn freshly and has no target.
        lr: learning rate of the heads.
    """

    weight: Weight = 0.1
    from_image: Annotated[int, Field(ge=0)] = 30_000
    free: Fraction = 0.25
    lr: Positive = 1e-3


class GeneratorOptimizer(_Section):
    """Adam with a learning rate that falls to zero over the end of the run.

    Attributes:
        lr: learning rate; equalized layers want a large one.
        mapping_factor: factor on the mapping network's rate. Its equalized scale of 0.01 suits
            runs of millions of images; in a short one it would hardly move.
        betas: of Adam.
        decay_from: share of the run after which the rate falls along a cosine.
        ema_half_life: images after which an old weight counts half in the average.
    """

    lr: Positive = 8e-3
    mapping_factor: Positive = 1.0
    betas: tuple[Fraction, Fraction] = (0.5, 0.99)
    decay_from: Fraction = 0.7
    ema_half_life: Positive = 1_500


class GeneratorSpec(_Section):
    """``restyle train generator``: distil a generator from crops that know their z.

    Attributes:
        name: of the run.
        crops: .npz files with ``images`` uint8 [N, S, S, 3] and ``z`` float32 [N, z_dim].
        framing_scale: the crop scale of the images, for the identity loss.
        framing_shift: the crop shift of the images.
    """

    name: str
    crops: tuple[Path, ...] = Field(min_length=1)
    framing_scale: Positive = 1.0
    framing_shift: float = 0.0
    schedule: Schedule
    generator: GeneratorShape
    distillation: Distillation = Distillation()
    adversarial: Adversarial = Adversarial()
    optimizer: GeneratorOptimizer = GeneratorOptimizer()


class EncoderLosses(_Section):
    """Weights of the encoder's losses (ReStyle, 2104.02699, section 4; pSp, 2008.00951).

    Attributes:
        l2: mean squared error of pixels.
        lpips: LPIPS with AlexNet.
        identity: one minus the cosine of face embeddings.
        identity_share: share of the steps that pay the identity loss, which costs the most; its
            weight is raised so that its expectation stays.
        latent: mean squared error to the true w, for images the generator made.
    """

    l2: Weight = 1.0
    lpips: Weight = 0.8
    identity: Weight = 0.1
    identity_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    latent: Weight = 0.0


class EncoderOptimizer(_Section):
    """Ranger: rectified Adam with lookahead and gradient centralization.

    Attributes:
        lr: learning rate.
        betas: of Adam.
        eps: of Adam.
        warmup: images over which the rate rises linearly.
        decay_from: share of the run after which the rate falls along a cosine.
        update: move once per ``batch``, as the paper does, or after every refinement ``step``.
        clip: largest norm of the gradient.
        ema_half_life: images after which an old weight counts half in the average; 0 keeps none.
    """

    lr: Positive = 1e-4
    betas: tuple[Fraction, Fraction] = (0.95, 0.999)
    eps: Positive = 1e-5
    warmup: Annotated[int, Field(ge=0)] = 0
    decay_from: Fraction = 0.7
    update: Literal["batch", "step"] = "batch"
    clip: Positive = 10.0
    ema_half_life: Weight = 0


class EncoderSpec(_Section):
    """``restyle train encoder``: ReStyle or single-pass, for one generator.

    Attributes:
        name: of the run.
        generator: the decoder: the folder of a generator's training run, or a generator file.
        widths: channels of the encoder's four stages.
        depths: units of the four stages.
        fine_width: channels of the map that fine styles are read from.
        steps: most refinement steps of a batch; the single pass ignores it.
        min_steps: least refinement steps; each batch draws its number.
        iterative: ReStyle (six input channels) or the single pass (three).
        crops: .npz files with ``images`` uint8 [N, S, S, 3].
        synthetic: share of each batch that the generator makes itself.
        mirror: whether half of the images are flipped left to right.
        framing_scale: the crop scale of the images, for the identity loss.
        framing_shift: the crop shift of the images.
    """

    name: str
    generator: Path
    widths: tuple[Count, Count, Count, Count] = (48, 96, 160, 256)
    depths: tuple[Count, Count, Count, Count] = (2, 3, 2, 1)
    fine_width: Count = 192
    steps: Count = 5
    min_steps: Count = 5
    iterative: bool = True
    crops: tuple[Path, ...] = Field(min_length=1)
    synthetic: Fraction = 0.0
    mirror: bool = True
    framing_scale: Positive = 1.0
    framing_shift: float = 0.0
    schedule: Schedule
    losses: EncoderLosses = EncoderLosses()
    optimizer: EncoderOptimizer = EncoderOptimizer()

    @model_validator(mode="after")
    def _steps_in_order(self) -> Self:
        if self.iterative and self.min_steps > self.steps:
            raise ValueError(f"min_steps is {self.min_steps}, more than the {self.steps} of steps")
        return self


Spec = TypeVar("Spec", GeneratorSpec, EncoderSpec)


def load_spec(path: Path, kind: type[Spec]) -> Spec:
    """Read and check a specification; relative paths in it start at its own folder.

    Raises:
        SpecError: the file is missing, is no TOML, or a value is wrong; every fault is named.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path} cannot be read as TOML: {error}") from error
    try:
        spec = kind.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))
            for fault in error.errors()
        )
        raise SpecError(f"{path}: {faults}") from error
    anchored: dict[str, object] = {"crops": tuple(path.parent / crops for crops in spec.crops)}
    if isinstance(spec, EncoderSpec):
        anchored["generator"] = path.parent / spec.generator
    for named in (
        *anchored["crops"],
        *([anchored["generator"]] if "generator" in anchored else []),
    ):  # type: ignore[misc]
        if not Path(named).exists():
            raise SpecError(f"{path} names {named}, which does not exist")
    return spec.model_copy(update=anchored)
