"""Sketches of latents: coordinates along their principal axes, which bound distances from below.

With an orthonormal projection P, and r(x) the length of what x has beside its projection,
Pythagoras and the triangle inequality give |x - q|^2 >= |Px - Pq|^2 + (r(x) - r(q))^2. So a row
whose bound exceeds an exact distance cannot be nearer. Source: I. T. Jolliffe, Principal Component
Analysis, 2002, chapter 1, for the axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from restyle.pipeline.results.latent_pages import FloatArray

AXES = 64
"""Coordinates of a sketch: 256 bytes of the 20 KB of a latent of faces64."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Origin and axes of sketches.

    Attributes:
        origin: [size] float32, the mean of the sample.
        axes: [axes, size] float32, orthonormal rows.
    """

    origin: FloatArray
    axes: FloatArray

    def sketch(self, latents: FloatArray) -> FloatArray:
        """Coordinates of latents, and the length of the rest.

        Args:
            latents: [n, size] float32.

        Returns:
            [n, axes + 1] float32.
        """
        off = latents - self.origin
        along = off @ self.axes.T
        # Not as a difference of squares, whose rounding may exceed the distance of near latents.
        off -= along @ self.axes
        return np.concatenate([along, np.linalg.norm(off, axis=1, keepdims=True)], 1)


def fit_basis(sample: FloatArray) -> Basis:
    """Find the principal axes of a sample.

    Args:
        sample: [n, size] float32, at least one row.

    Returns:
        At most :data:`AXES` axes, fewer if the sample has a lower rank.
    """
    from scipy.linalg import eigh

    origin = sample.mean(0, dtype=np.float64).astype(np.float32)
    off = (sample - origin).astype(np.float64)
    count = len(sample)
    # The eigenvectors of the small Gram matrix give those of the large covariance.
    values, vectors = eigh(off @ off.T, subset_by_index=(max(0, count - AXES), count - 1))
    kept = values > 1e-9 * max(float(values[-1]), 1e-30)
    axes = (vectors[:, kept].T @ off) / np.sqrt(values[kept])[:, None]
    # Orthonormal to the precision of the sketches, which the bound relies on.
    axes = np.linalg.qr(axes.T)[0].T if len(axes) else axes.reshape(0, sample.shape[1])
    return Basis(origin, np.ascontiguousarray(axes, np.float32))


def lower_bounds(sketches: FloatArray, wanted: FloatArray) -> FloatArray:
    """Lower bounds of the squared distances to a latent.

    Args:
        sketches: [n, axes + 1].
        wanted: [axes + 1], the sketch of the latent.

    Returns:
        [n] float32.
    """
    bounds = np.empty(len(sketches), np.float32)
    for start in range(0, len(sketches), 65536):
        off = sketches[start : start + 65536] - wanted
        bounds[start : start + 65536] = np.einsum("ij,ij->i", off, off)
    return bounds
