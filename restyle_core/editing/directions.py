"""Directions: straight lines in latent space along which one thing about an image changes.

A direction is a safetensors file with one vector and, in its metadata, what it is: where it came
from, which layers it is meant for, and how far one unit of strength goes. This file imports no
torch, so that directions can be listed at once.
"""

from __future__ import annotations

import json
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
_NAME = re.compile(r"[\w][\w .+-]{0,99}", re.ASCII)


class About(BaseModel):
    """What a direction is, as it stands in its file.

    Attributes:
        format: version of the file.
        name: what it changes, ``smile``; also the file's name.
        kind: how it was found: an InterfaceGAN boundary, a GANSpace component, a SeFa
            eigenvector, or taken over from a file that does not say.
        layers: the styles that it is meant for; all when None.
        scale: how far one unit of strength moves a style vector.
        unit: what that is: the standard deviation of w along the direction, or the length of the
            vector in the file that it was imported from.
        accuracy: share of held-out latents on their side of a boundary, among those with much or
            little of the attribute; None elsewhere.
        held_out: how many those were.
        accuracy_all: the same among all held-out latents, against their median score.
        generator: of the generator that it was fitted for, what
            :func:`restyle.core.checkpoints.fingerprint.synthesis_fingerprint` says; None when
            unknown.
        origin: what it was made from, in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    kind: Literal["interfacegan", "ganspace", "sefa", "imported"]
    layers: tuple[Annotated[int, Field(ge=0, lt=_MAX_STYLES)], ...] | None = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    unit: Literal["standard deviation", "file"] = "standard deviation"
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    held_out: Annotated[int, Field(ge=0)] | None = None
    accuracy_all: Annotated[float, Field(ge=0, le=1)] | None = None
    generator: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    origin: str = ""


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction.

    Attributes:
        about: what it is.
        vector: float32 [style_dim] of length 1, or [n_styles, style_dim] whose rows have length 1
            in the quadratic mean.
    """

    about: About
    vector: FloatArray

    @property
    def name(self) -> str:
        """What it changes."""
        return self.about.name

    def described(self, **fields: Any) -> Direction:
        """The same with other things said of it.

        Raises:
            SpecError: a name that a file cannot have, or layers that nothing has.
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
        """A direction of any vector [style_dim] or [n_styles, style_dim], brought to length 1.

        Raises:
            SpecError: another shape, or nothing that could be brought to length 1.
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
        """The styles that it moves in latents of a shape.

        Args:
            shape: number of styles and their length.
            layers: others than those that it is meant for.

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

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``NAME.safetensors`` into a folder, whole or not at all.

        Raises:
            FatalError: it cannot be written.
        """
        path = Path(folder) / f"{self.name}{SUFFIX}"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {_METADATA: self.about.model_dump_json()}
            # Not by save_file, whose files nobody else may read.
            temporary.write_bytes(save({_TENSOR: np.ascontiguousarray(self.vector)}, metadata))
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            raise FatalError(f"{path} cannot be written: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return path


def row_length(vector: npt.NDArray[np.float64]) -> float:
    """Length of a vector [style_dim], or of the rows of [n_styles, style_dim] (quadratic mean)."""
    return float(np.sqrt(np.square(vector).sum(axis=-1).mean()))


def read_direction(path: str | os.PathLike[str]) -> Direction:
    """Read a direction's file.

    Raises:
        CheckpointError: it is missing, damaged or no direction.
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
    """What a direction's file says of itself.

    Raises:
        CheckpointError: it is missing, damaged or no direction.
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
        return About.model_validate(json.loads(metadata[_METADATA]))
    except (OSError, SafetensorError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CheckpointError(f"{path} is no direction: {reason}") from error


def parse_layers(text: str) -> Layers:
    """Style numbers from ``0-5``, ``3`` or ``0-2,8-9``; ranges include both ends.

    Raises:
        SpecError: it is not written like that.
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
    """``0-2,8-9``; ``all`` for None."""
    if layers is None:
        return "all"
    parts: list[list[int]] = []
    for layer in layers:
        if parts and layer == parts[-1][1] + 1:
            parts[-1][1] = layer
        else:
            parts.append([layer, layer])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def check_name(text: str) -> str:
    """A name that a direction, and so its file, may have.

    Raises:
        SpecError: it may not.
    """
    if not _NAME.fullmatch(text):
        raise SpecError(
            f"{text!r} cannot name a direction; letters, digits, spaces and . _ + - can, "
            "at most 100"
        )
    return text


def safe_name(text: str) -> str:
    """A name as files may have it, from whatever a file of another tool is called."""
    name = re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).lstrip(".+-")[:100]
    return name or "direction"
