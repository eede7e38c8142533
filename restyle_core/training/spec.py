"""Training specifications: TOML files validated before training starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restyle.core.errors import SpecError, fault_of
from restyle.core.files import folder_of, read_toml
from restyle.core.networks.config import embedded_models

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Weight = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """Section of a specification; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Section):
    """Length of a run and intervals of its outputs, in images.

    Attributes:
        images: length of the run.
        batch: images per step.
        checkpoint_every: images between two checkpoints.
        sample_every: images between two sample grids.
        log_every: images between two lines of the loss log.
        seed: of all random numbers; a resumed run equals an uninterrupted one.
        dtype: of activations; parameters are always float32.
        threads: CPU threads; 0 for torch's default.
    """

    images: Count
    batch: Count = 16
    checkpoint_every: Count = 8_000
    sample_every: Count = 8_000
    log_every: Count = 800
    seed: int = 0
    dtype: Literal["fp32", "bf16"] = "bf16"
    threads: Annotated[int, Field(ge=0)] = 0


class TrainingSpec(Section):
    """Settings of every training.

    Attributes:
        name: of the run.
        crops: folders of images, which are cropped to squares and resized; or .npz files with
            ``images`` uint8 [N, S, S, 3], and for distillation ``z`` float32 [N, z_dim] or
            ``latents`` float16 [N, n_styles, style_dim] in W+.
        framing_scale: the crop scale of the images, for the identity loss.
        framing_shift: the crop shift of the images.
        schedule: length of the run.
    """

    name: str
    crops: tuple[Path, ...] = Field(min_length=1)
    framing_scale: Positive = 1.0
    framing_shift: float = 0.0
    schedule: Schedule

    def anchored(self, folder: Path) -> Self:
        """The specification with relative paths resolved against a folder.

        Raises:
            SpecError: a file does not exist.
        """
        crops = tuple(existing(folder, path) for path in self.crops)
        return self.model_copy(update={"crops": crops})


def existing(folder: Path, name: str | Path) -> Path:
    """Resolve a path, relative to a folder or to a home (``~``).

    Raises:
        SpecError: it does not exist.
    """
    # Not Path.expanduser, which raises for an unknown user.
    path = folder / os.path.expanduser(name)  # noqa: PTH111
    if not path.exists():
        raise SpecError(f"it names {path}, which does not exist")
    return path


def located(folder: Path, name: str) -> str:
    """Resolve ``MODEL`` or ``MODEL:ENCODER``: an embedded model's name stays, a path is joined.

    Raises:
        SpecError: the path does not exist.
    """
    base, colon, encoder = name.partition(":")
    if base in embedded_models():
        return name
    return f"{existing(folder, base)}{colon}{encoder}"


Spec = TypeVar("Spec", bound=TrainingSpec)


def load_spec(path: Path, kind: type[Spec]) -> Spec:
    """Read and validate a specification; relative paths are resolved against its folder.

    Raises:
        SpecError: the file cannot be read, is not TOML, or has wrong values; the message names all.
    """
    values = read_toml(path)
    try:
        spec = kind.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(map(fault_of, error.errors()))
        raise SpecError(f"{path}: {faults}") from error
    try:
        return spec.anchored(folder_of(path))
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error
