"""Directions with metadata from the fits of :mod:`restyle.core.editing.fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from restyle.core.checkpoints.fingerprint import synthesis_fingerprint
from restyle.core.editing.directions import About, Direction, Layers
from restyle.core.editing.fit import (
    FitSettings,
    components,
    eigenvectors,
    fit_boundary,
    sample_latents,
    spread_along,
)
from restyle.core.errors import SpecError
from restyle.core.networks.generator import Generator

SAMPLES = 20_000
"""Number of latents sampled to measure standard deviations."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Label:
    """The part of a direction's metadata that the caller chooses.

    Attributes:
        name: the attribute that changes.
        layers: the styles to move; all when None.
        origin: description of the source.
    """

    name: str
    layers: Layers | None = None
    origin: str = ""


def boundary_direction(
    generator: Generator,
    label: Label,
    latents: FloatArray,
    scores: FloatArray,
    settings: FitSettings,
    kept: Sequence[Direction] = (),
) -> Direction:
    """A direction towards higher scores.

    Args:
        generator: the owner of the latents.
        label: of the direction.
        latents: [N, style_dim] or [N, n_styles, style_dim].
        scores: [N].
        settings: of the fit.
        kept: directions to which the result is made orthogonal.

    Raises:
        SpecError: the latents are not the generator's, or cannot be separated.
    """
    latents = _shaped(latents, generator)
    shape = latents.shape[1:]
    others = [_in_shape(other.vector, shape) for other in kept]
    found = fit_boundary(latents, scores, settings, others)
    measured = {
        "scale": found.scale,
        "accuracy": found.accuracy,
        "held_out": found.held_out,
        "accuracy_all": found.accuracy_all,
    }
    return Direction.of(found.normal, _about(label, generator, "interfacegan", measured))


def component_directions(
    generator: Generator, label: Label, count: int, latents: FloatArray | None = None
) -> list[Direction]:
    """Principal components of the latents, named ``NAME-0``, ``NAME-1`` and so on.

    Args:
        generator: the owner of the latents.
        label: of the directions.
        count: number of components.
        latents: [N, style_dim]; sampled from the mapping network when None.
    """
    if latents is None:
        latents = sample_latents(generator, SAMPLES)
    latents = _shaped(latents, generator)
    vectors, spreads = components(latents, count)
    return [
        Direction.of(vector, _about(label, generator, "ganspace", {"scale": spread}, number))
        for number, (vector, spread) in enumerate(zip(vectors, spreads, strict=True))
    ]


def weight_directions(generator: Generator, label: Label, count: int) -> list[Direction]:
    """SeFa directions of a generator, named ``NAME-0`` and so on.

    Args:
        generator: the generator.
        label: of the directions; its layers choose the affine weights.
        count: number of directions.
    """
    samples = sample_latents(generator, SAMPLES)
    found = []
    for number, vector in enumerate(eigenvectors(generator, count, label.layers)):
        scale = {"scale": spread_along(samples, vector)}
        found.append(Direction.of(vector, _about(label, generator, "sefa", scale, number)))
    return found


def _about(
    label: Label,
    generator: Generator,
    kind: Literal["interfacegan", "ganspace", "sefa"],
    measured: Mapping[str, Any],
    number: int | None = None,
) -> About:
    if not measured["scale"] > 0:
        raise SpecError(f"the latents do not differ along {label.name!r}")
    return About(
        name=label.name if number is None else f"{label.name}-{number}",
        kind=kind,
        layers=label.layers,
        generator=synthesis_fingerprint(generator),
        origin=label.origin,
        **measured,
    )


def _in_shape(vector: FloatArray, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return a direction's vector for latents of a shape.

    In W it is the mean of its rows: a step in W moves all styles alike, and is orthogonal to the
    rows as a whole when it is orthogonal to their mean.
    """
    rows = vector.mean(axis=0) if vector.ndim > len(shape) else vector
    return np.broadcast_to(rows, shape).astype(np.float64)


def _shaped(latents: FloatArray, generator: Generator) -> FloatArray:
    """Return the latents in the generator's shape; other programs write w+ as one flat list."""
    shape = (generator.config.n_styles, generator.config.style_dim)
    if latents.shape[1:] == (shape[0] * shape[1],):
        return latents.reshape(len(latents), *shape)
    if latents.shape[1:] not in (shape, shape[1:]):
        raise SpecError(
            f"latents of {list(latents.shape[1:])} are not this generator's, "
            f"which takes {shape[0]} styles of {shape[1]}"
        )
    return latents
