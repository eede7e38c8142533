"""Fitting directions: InterfaceGAN boundaries, GANSpace components, SeFa eigenvectors.

All three are linear algebra on a few thousand latents and take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from restyle.core.editing.directions import Layers, show_layers
from restyle.core.errors import SpecError
from restyle.core.networks.generator import Generator
from restyle.core.shown_text import plural

Matrix = npt.NDArray[np.float64]

FEWEST = 100
"""Minimum number of latents for a fit."""
_SAMPLES_AT_ONCE = 4096


@dataclass(frozen=True)
class FitSettings:
    """Settings of a boundary's fit.

    Attributes:
        outer: share of the latents with the highest scores, and with the lowest, to train on
            (InterfaceGAN, 2005.09635, section 3.3).
        held_out: share of the latents that only measures the accuracy.
        penalty: weight of the squared length of the normal, for latents of unit variance.
        seed: of the choice of held-out latents.
    """

    outer: float = 0.15
    held_out: float = 0.25
    penalty: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.outer <= 0.5 or not 0 < self.held_out < 1 or not self.penalty >= 0:
            raise SpecError(
                f"outer is {self.outer}, held_out {self.held_out}, penalty {self.penalty}; "
                "outer goes up to 0.5, held_out from 0 to 1, and penalty is not negative"
            )


@dataclass(frozen=True, eq=False)
class Boundary:
    """A hyperplane between latents with low and with high scores.

    Attributes:
        normal: [style_dim] or [n_styles, style_dim] float64, towards high scores; rows have a root
            mean square length of 1.
        scale: standard deviation of the latents along the normal.
        accuracy: share of held-out latents with outer scores that lie on the correct side.
        held_out: number of latents that ``accuracy`` counts.
        accuracy_all: the same share for all held-out latents, split at the median score, with the
            plane moved to their median.
    """

    normal: Matrix
    scale: float
    accuracy: float
    held_out: int
    accuracy_all: float


def fit_boundary(
    latents: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    settings: FitSettings | None = None,
    kept: Sequence[Matrix] = (),
) -> Boundary:
    """Separate latents by a score (Shen et al., InterfaceGAN, 2005.09635).

    Uses penalised logistic regression instead of the paper's linear support vector machine.

    Args:
        latents: [N, style_dim] w, or [N, n_styles, style_dim] w+.
        scores: [N] of any scale; larger is more of the attribute. Latents with NaN are ignored.
        settings: of the fit.
        kept: directions of the latents' shape to which the result is made orthogonal; see
            :func:`without`.

    Raises:
        SpecError: too few latents, or scores that do not differ.
    """
    settings = settings or FitSettings()
    scored = np.isfinite(scores)
    flat = latents[scored].reshape(int(scored.sum()), -1).astype(np.float64)
    scores = scores[scored].astype(np.float64)
    if len(flat) < FEWEST:
        raise SpecError(f"{plural(len(flat), 'latent')} with a score; at least {FEWEST} are needed")
    order = np.random.default_rng(settings.seed).permutation(len(flat))
    held, train = np.split(order, [max(1, round(settings.held_out * len(flat)))])
    low, high = np.quantile(scores[train], [settings.outer, 1 - settings.outer])
    if not low < high:
        raise SpecError("the scores hardly differ; a boundary needs low ones and high ones")
    mean = flat[train].mean(axis=0)
    spread = float(flat[train].std(axis=0).mean())
    if not spread > 0:
        raise SpecError("the latents do not differ from each other")
    unit = (flat - mean) / spread
    ends = train[(scores[train] <= low) | (scores[train] >= high)]
    weights, bias = _logistic(unit[ends], scores[ends] >= high, settings.penalty)
    if kept:
        shape = latents.shape[1:]
        weights = without(weights.reshape(shape), kept).reshape(-1)
        (factor,), bias = _logistic((unit[ends] @ weights)[:, None], scores[ends] >= high, 1e-6)
        if factor <= 0:
            raise SpecError("without the directions to be left alone, nothing of the score is left")
        weights = weights * factor
    side = unit @ weights + bias
    outer = held[(scores[held] <= low) | (scores[held] >= high)]
    above = scores[held] > np.median(scores[held])
    rows = latents.shape[1] if latents.ndim == 3 else 1
    normal = weights / np.linalg.norm(weights) * np.sqrt(rows)
    return Boundary(
        normal=normal.reshape(latents.shape[1:]),
        scale=_spread_along(flat, normal, rows),
        accuracy=float(np.mean((side[outer] > 0) == (scores[outer] >= high))),
        held_out=len(outer),
        accuracy_all=float(np.mean((side[held] > np.median(side[held])) == above)),
    )


def without(vector: Matrix, others: Sequence[Matrix]) -> Matrix:
    """Project a direction onto the complement of others (2005.09635, section 3.2).

    Moving along the result does not change the distances to the others' boundaries.

    Args:
        vector: [style_dim] or [n_styles, style_dim].
        others: of the same shape.

    Raises:
        SpecError: the shapes differ, or the projection is zero.
    """
    if any(other.shape != vector.shape for other in others):
        raise SpecError("directions of different shapes cannot be taken out of each other")
    basis, _ = np.linalg.qr(np.stack([other.reshape(-1) for other in others], axis=1))
    flat = vector.reshape(-1).astype(np.float64)
    left = flat - basis @ (basis.T @ flat)
    if np.linalg.norm(left) < 1e-6 * np.linalg.norm(flat):
        raise SpecError("nothing is left of the direction without the others")
    return left.reshape(vector.shape)


def spread_along(latents: npt.NDArray[np.floating], vector: Matrix) -> float:
    """Standard deviation of latents along a direction, in units of the direction's rows.

    Args:
        latents: [N, style_dim] or [N, n_styles, style_dim].
        vector: [style_dim] or [n_styles, style_dim]; rows have a root mean square length of 1.
    """
    rows = vector.shape[0] if vector.ndim == 2 else 1
    return _spread_along(latents.reshape(len(latents), -1), vector.reshape(-1), rows)


def components(latents: npt.NDArray[np.floating], count: int) -> tuple[Matrix, Matrix]:
    """Principal components of w (Härkönen et al., GANSpace, 2004.02546, section 2.2).

    Args:
        latents: [N, style_dim].
        count: number of components.

    Returns:
        Components [count, style_dim] of length 1 by falling variance, with a positive largest
        entry; and the standard deviation along each, [count].

    Raises:
        SpecError: fewer latents or dimensions than components.
    """
    if latents.ndim != 2 or not 0 < count < min(latents.shape):
        raise SpecError(
            f"{count} components of latents {list(latents.shape)}: "
            "[N, style_dim] with more of both is needed"
        )
    centred = latents.astype(np.float64)
    centred -= centred.mean(axis=0)
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    chosen = vectors[:, ::-1][:, :count].T
    return _signed(chosen), np.sqrt(np.maximum(variances[::-1][:count], 0))


def eigenvectors(generator: Generator, count: int, layers: Layers | None = None) -> Matrix:
    """Directions that change a generator's modulation most (Shen and Zhou, SeFa, 2007.06600).

    They are the eigenvectors of A'A with the largest eigenvalues (equation 5), where A holds the
    weights of the affine layers from style to modulation.

    Args:
        generator: the owner of the affine layers.
        count: number of directions.
        layers: the styles whose affine layers are used; all when None.

    Returns:
        [count, style_dim] of length 1 by falling eigenvalue, with a positive largest entry.

    Raises:
        SpecError: the generator does not have the layers or so many dimensions.
    """
    affine = affine_weights(generator)
    wanted = range(len(affine)) if layers is None else layers
    if not wanted or max(wanted) >= len(affine):
        raise SpecError(
            f"layers {show_layers(layers)}: the generator has styles 0-{len(affine) - 1}"
        )
    if not 0 < count <= generator.config.style_dim:
        raise SpecError(f"{count} directions of {generator.config.style_dim} dimensions")
    stacked = np.concatenate([weight for style in wanted for weight in affine[style]])
    _, vectors = np.linalg.eigh(stacked.T @ stacked)
    return _signed(vectors[:, ::-1][:, :count].T)


def affine_weights(generator: Generator) -> list[list[Matrix]]:
    """The affine weights [channels, style_dim] of the layers that each style modulates."""
    state = generator.state_dict()
    found: list[list[Matrix]] = [[] for _ in range(generator.config.n_styles)]

    def add(style: int, prefix: str) -> None:
        weight = state[f"{prefix}.conv.modulation.weight"]
        found[style].append(weight.detach().double().cpu().numpy())

    add(0, "conv1")
    add(1, "to_rgb1")
    for block in range(len(generator.config.widths) - 1):
        add(2 * block + 1, f"convs.{2 * block}")
        add(2 * block + 2, f"convs.{2 * block + 1}")
        add(2 * block + 3, f"to_rgbs.{block}")
    return found


@torch.inference_mode()
def sample_latents(generator: Generator, count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Sample w [count, style_dim] from the mapping network, reproducibly by seed."""
    source = torch.Generator().manual_seed(seed)
    device = next(generator.parameters()).device
    z = torch.randn(count, generator.config.z_dim, generator=source)
    parts = [generator.mapping(part.to(device)).cpu() for part in torch.split(z, _SAMPLES_AT_ONCE)]
    w: npt.NDArray[np.float32] = torch.cat(parts).float().numpy()
    return w


def _logistic(
    features: Matrix, positive: npt.NDArray[np.bool_], penalty: float
) -> tuple[Matrix, float]:
    """Weights [D] and bias that minimise the mean logistic loss plus the penalty."""
    signs = np.where(positive, 1.0, -1.0)

    def loss(parameters: Matrix) -> tuple[float, Matrix]:
        weights, bias = parameters[:-1], parameters[-1]
        margins = signs * (features @ weights + bias)
        value = np.logaddexp(0, -margins).mean() + penalty / 2 * weights @ weights
        pull = -signs * np.exp(-np.logaddexp(0, margins)) / len(signs)
        return float(value), np.append(features.T @ pull + penalty * weights, pull.sum())

    found = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B")
    return found.x[:-1], float(found.x[-1])


def _spread_along(flat: npt.NDArray[np.floating], vector: Matrix, rows: int) -> float:
    return float((flat @ vector / rows).std())


def _signed(vectors: Matrix) -> Matrix:
    """Fix the arbitrary sign of eigenvectors: the largest entry becomes positive."""
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    return np.ascontiguousarray(vectors * np.sign(largest))
