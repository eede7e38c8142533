"""What a model directory says about itself: ``model.json``, typed.

Importing this file imports no torch, so that commands which only look at a model answer at once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MODEL_FILE = "model.json"
"""The file that makes a directory a model."""


class EncoderKind(StrEnum):
    """Encoder architectures, by the names that published checkpoints use in ``opts``."""

    BACKBONE = "BackboneEncoder"
    PROGRESSIVE_BACKBONE = "ProgressiveBackboneEncoder"
    RESNET_BACKBONE = "ResNetBackboneEncoder"
    RESNET_PROGRESSIVE_BACKBONE = "ResNetProgressiveBackboneEncoder"
    GRADUAL_STYLE = "GradualStyleEncoder"
    RESNET_GRADUAL_STYLE = "ResNetGradualStyleEncoder"
    ENCODER4EDITING = "Encoder4Editing"
    SMALL_BACKBONE = "SmallBackboneEncoder"


def _local_name(name: str) -> str:
    """Accept a plain relative path inside the model's directory and nothing else.

    A model directory may come from anywhere, so its ``model.json`` must not be able to name
    files outside of it.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise ValueError(f"{name!r} is not a file inside the model's directory")
    return name


LocalName = Annotated[str, AfterValidator(_local_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GeneratorFile(_Frozen):
    """A generator's weights.

    Attributes:
        file: safetensors file, relative to the model's directory.
        sha256: its checksum in hex.
    """

    file: LocalName
    sha256: Sha256


class EncoderFile(_Frozen):
    """An encoder's weights, with its ``latent_avg`` [n_styles, style_dim] among them.

    Attributes:
        file: safetensors file, relative to the model's directory.
        sha256: its checksum in hex.
        kind: the architecture.
        iterative: refines (6 input channels: image and reconstruction) or works in a single
            pass (3 channels).
    """

    file: LocalName
    sha256: Sha256
    kind: EncoderKind
    iterative: bool


class ModelConfig(_Frozen):
    """One domain: a generator and the encoders that were trained for it.

    Attributes:
        format: version of this file.
        name: what the user calls the model.
        domain: ``faces``, ``cars``, ``church``, ...
        image_size: height and width of the encoder's input in pixels.
        output_rows: first and one-past-last row of the generated image that are kept, when the
            domain is not square (cars: 64 to 448 of 512); all rows when None.
        align: whether photographs of this domain are aligned by default.
        framing_scale: side of the aligned crop relative to the FFHQ quad.
        framing_shift: displacement of the crop towards the chin, in units of the quad's side.
        generator: the generator's weights.
        encoders: encoders by name.
        default_encoder: the encoder used when none is named.
    """

    format: Literal[1] = 1
    name: str
    domain: str
    image_size: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]]
    output_rows: tuple[int, int] | None = None
    align: bool = False
    framing_scale: Annotated[float, Field(gt=0)] = 1.0
    framing_shift: float = 0.0
    generator: GeneratorFile
    encoders: Annotated[dict[str, EncoderFile], Field(min_length=1)]
    default_encoder: str

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.default_encoder not in self.encoders:
            raise ValueError(
                f"default_encoder {self.default_encoder!r} is not among the encoders "
                f"({', '.join(sorted(self.encoders))})"
            )
        if self.output_rows is not None and not 0 <= self.output_rows[0] < self.output_rows[1]:
            raise ValueError(f"output_rows {self.output_rows} is not a range of rows")
        return self
