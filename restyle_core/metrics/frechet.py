"""Fréchet distance between two sets of feature vectors, modelled as Gaussians.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule ..." (1706.08500), equation 6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from restyle.core.errors import SpecError


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` with sample means and covariances.

    The trace of the matrix root is computed as the sum of the singular values of
    ``C1^(1/2) C2^(1/2)``, which is real and numerically stable.

    Args:
        a: [N, d] features, one row per sample.
        b: [M, d] features.

    Returns:
        The squared distance, 0 for sets of equal mean and covariance, computed in float64. Its bias
        depends on the number of samples: compare only sets of one size.

    Raises:
        SpecError: fewer than two rows, different widths, or values that are not finite.
    """
    first, second = _features(a), _features(b)
    if first.shape[1] != second.shape[1]:
        raise SpecError(
            f"features of {first.shape[1]} and {second.shape[1]} columns do not compare"
        )
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (first, second)]
    roots = [_square_root(covariance) for covariance in covariances]
    shift = first.mean(axis=0) - second.mean(axis=0)
    overlap = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    traces = sum(np.trace(covariance) for covariance in covariances)
    return max(0.0, float(shift @ shift + traces - 2 * overlap))


def _features(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2:
        raise SpecError(f"features must be [N >= 2, d], these are {list(array.shape)}")
    if not np.isfinite(array).all():
        raise SpecError("features hold values that are not finite")
    return array


def _square_root(covariance: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    root: npt.NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root
