"""Directions in latent space along which one attribute of an image changes.

A direction is a safetensors file with one vector. Its metadata has the origin, the layers and the
length of one unit of strength. This module imports no torch, so that listing directions is fast.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from restyle.core.errors import CheckpointError, FatalError, SpecError

FloatArray = npt.NDArray[np.float32]
Layers = tuple[int, ...]

SUFFIX = ".safetensors"
_TENSOR = "direction"
_METADATA = "restyle.direction"
_MAX_STYLES = 64
_MOST_SHOWN = 4
_NAME = re.compile(r"[\w][\w .+-]{0,99}", re.ASCII)


class About(BaseModel):
    """Metadata of a direction.

    Attributes:
        format: version of the file format.
        name: the attribute that changes, such as ``smile``; also the file's name.
        kind: InterfaceGAN boundary, GANSpace component, SeFa eigenvector, trained through the
            generator, or imported from a file without that information.
        layers: the styles to move; all when None.
        scale: distance by which one unit of strength moves a style vector.
        unit: meaning of ``scale``: the standard deviation of w along the direction; the length of
            the vector in the imported file; or what changes the attribute by half of its standard
            deviation among the generator's samples.
        reliable: lowest and highest strength at which measured faces remained whole; None if that
            was not measured.
        accuracy: share of held-out latents on the correct side of a boundary, among those with high
            or low scores; None for other kinds.
        held_out: number of latents that ``accuracy`` counts.
        accuracy_all: the same share among all held-out latents, against their median score.
        generator: fingerprint of the generator that it was fitted for
            (:func:`restyle.core.checkpoints.fingerprint.synthesis_fingerprint`), or None.
        origin: description of the source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    kind: Literal["interfacegan", "ganspace", "sefa", "trained", "imported"]
    layers: tuple[Annotated[int, Field(ge=0, lt=_MAX_STYLES)], ...] | None = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    unit: Literal["standard deviation", "file", "half a deviation of the attribute"] = (
        "standard deviation"
    )
    reliable: (
        tuple[
            Annotated[float, Field(lt=0, allow_inf_nan=False)],
            Annotated[float, Field(gt=0, allow_inf_nan=False)],
        ]
        | None
    ) = None
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    held_out: Annotated[int, Field(ge=0)] | None = None
    accuracy_all: Annotated[float, Field(ge=0, le=1)] | None = None
    generator: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    origin: str = ""


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction.

    Attributes:
        about: its metadata.
        vector: float32 [style_dim] of length 1, or [n_styles, style_dim] with rows whose root mean
            square length is 1.
    """

    about: About
    vector: FloatArray

    @property
    def name(self) -> str:
        """The attribute that it changes."""
        return self.about.name

    def described(self, **fields: Any) -> Direction:
        """The direction with other metadata.

        Raises:
            SpecError: a field is invalid.
        """
        try:
            about = About.model_validate(self.about.model_dump() | fields)
        except ValidationError as error:
            problem = error.errors()[0]
            raise SpecError(
                f"direction {self.name!r}: {problem['loc'][0]} {problem['input']!r}: "
                f"{problem['msg']}"
            ) from error
        return Direction(about, self.vector)

    @classmethod
    def of(cls, vector: npt.NDArray[Any], about: About) -> Direction:
        """A direction of any vector [style_dim] or [n_styles, style_dim], normalised to length 1.

        Raises:
            SpecError: the vector has another shape, or its length is 0 or not finite.
        """
        values = np.asarray(vector, dtype=np.float64)
        if values.ndim not in (1, 2) or 0 in values.shape:
            raise SpecError(
                f"direction {about.name!r} has shape {list(values.shape)}; "
                "[style_dim] or [n_styles, style_dim] is needed"
            )
        length = row_length(values)
        if not np.isfinite(length) or length < 1e-12:
            raise SpecError(f"direction {about.name!r} has length {length:g}")
        return cls(about, (values / length).astype(np.float32))

    def styles(self, shape: tuple[int, int], layers: Sequence[int] | None = None) -> list[int]:
        """Indices of the styles that it moves in latents of a shape.

        Args:
            shape: (n_styles, style_dim).
            layers: overrides the direction's own layers.

        Raises:
            SpecError: it does not fit such latents.
        """
        n_styles, style_dim = shape
        layers = self.about.layers if layers is None else layers
        if layers and max(layers) >= n_styles:
            raise SpecError(
                f"layers {show_layers(layers)} of direction {self.name!r}: "
                f"the latents have {n_styles} styles, 0-{n_styles - 1}"
            )
        vector = self.vector
        if vector.shape[-1] != style_dim or (vector.ndim == 2 and len(vector) != n_styles):
            raise SpecError(
                f"direction {self.name!r} is for {list(vector.shape)}, "
                f"the latents have {n_styles} styles of {style_dim}"
            )
        return list(range(n_styles) if layers is None else layers)

    def beyond_reliable(self, strengths: Sequence[float]) -> str:
        """A line for a user about strengths outside the reliable range; empty if there are none."""
        if self.about.reliable is None:
            return ""
        low, high = self.about.reliable
        outside = [f"{each:g}" for each in strengths if not low <= each <= high]
        if not outside:
            return ""
        if len(outside) > _MOST_SHOWN:
            shown = f"{len(outside)} strengths, such as {outside[0]} and {outside[-1]}"
        else:
            first = ", ".join(outside[:-1])
            shown = f"strengths {first} and {outside[-1]}" if first else f"strength {outside[0]}"
        return (
            f"{self.name} is reliable from {low:g} to {high:g}: faces may smear or change in "
            f"other ways at {shown}"
        )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``NAME.safetensors`` into a folder, atomically.

        Raises:
            FatalError: it cannot be written.
        """
        path = Path(folder) / f"{self.name}{SUFFIX}"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {_METADATA: self.about.model_dump_json()}
            # save_file would create a file that only its owner may read.
            temporary.write_bytes(save({_TENSOR: np.ascontiguousarray(self.vector)}, metadata))
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            raise FatalError(f"{path} cannot be written: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return path


def row_length(vector: npt.NDArray[np.float64]) -> float:
    """Length of a vector [style_dim], or root mean square length of rows [n_styles, style_dim]."""
    return float(np.sqrt(np.square(vector).sum(axis=-1).mean()))


def read_direction(path: str | os.PathLike[str]) -> Direction:
    """Read a direction's file.

    Raises:
        CheckpointError: the file is missing, damaged or not a direction.
    """
    path = Path(path)
    about = read_about(path)
    try:
        with safe_open(path, framework="numpy") as file:
            vector = file.get_tensor(_TENSOR)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is no direction: {error}") from error
    if vector.dtype != np.float32 or not np.isfinite(vector).all():
        raise CheckpointError(f"{path} is no direction: its vector is not finite float32")
    try:
        return Direction.of(vector, about)
    except SpecError as error:
        raise CheckpointError(f"{path} is no direction: {error}") from error


def read_about(path: Path) -> About:
    """Read the metadata of a direction's file.

    Raises:
        CheckpointError: the file is missing, damaged or not a direction.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no direction {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            keys = list(file.keys())
        if _METADATA not in metadata or keys != [_TENSOR]:
            raise CheckpointError(
                f"{path} is a safetensors file without a direction; "
                "restyle directions import takes files of other tools"
            )
        return About.model_validate_json(metadata[_METADATA])
    except (OSError, SafetensorError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CheckpointError(f"{path} is no direction: {reason}") from error


def parse_layers(text: str) -> Layers:
    """Style numbers from ``0-5``, ``3`` or ``0-2,8-9``; ranges include both ends.

    Raises:
        SpecError: the text has another form.
    """
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})\s*)?", part, re.ASCII)
        first = int(match[1]) if match else 0
        last = int(match[2] or match[1]) if match else -1
        if first > last or last >= _MAX_STYLES:
            raise SpecError(f"layers {text!r}: write ranges such as 0-5 or 0-2,8-9")
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


def show_layers(layers: Sequence[int] | None) -> str:
    """Layers as text, such as ``0-2,8-9``; ``all`` for None."""
    if layers is None:
        return "all"
    parts: list[list[int]] = []
    for layer in layers:
        if parts and layer == parts[-1][1] + 1:
            parts[-1][1] = layer
        else:
            parts.append([layer, layer])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def show_reliable(strengths: tuple[float, float] | None) -> str:
    """A range of strengths as text, such as ``-3..2``; ``-`` for None."""
    return "-" if strengths is None else f"{strengths[0]:g}..{strengths[1]:g}"


def check_name(text: str) -> str:
    """Return the text if it is a valid name of a direction.

    Raises:
        SpecError: it is not.
    """
    if not _NAME.fullmatch(text):
        raise SpecError(
            f"{text!r} cannot name a direction; letters, digits, spaces and . _ + - can, "
            "at most 100"
        )
    return text


def safe_name(text: str) -> str:
    """A valid name of a direction from any text."""
    name = re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).lstrip(".+-")[:100]
    return name or "direction"
