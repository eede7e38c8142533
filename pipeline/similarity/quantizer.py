"""Codes of latents: 8 bits for each coordinate along their principal axes, in lists by cell.

Sources: H. Jegou, M. Douze, C. Schmid, "Product Quantization for Nearest Neighbor Search" (2011),
section IV, for lists of codes by the nearest centroid; M. Douze et al., "The Faiss library"
(2401.08281), which does all computation here. Its own files are not used, because reading one from
elsewhere is not safe: what was trained is kept as plain arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from restyle.pipeline.results.latent_file import IntArray
from restyle.pipeline.results.latent_pages import FloatArray

ByteArray = npt.NDArray[np.uint8]

AXES = 128
"""Coordinates of a code, which keep 95% of the variance of latents of faces64."""
FITTED = 1024
"""Latents from which the axes are found."""
_IN_LIST = 1024
_MOST_LISTS = 4096
_SAMPLED = 64
"""Latents for each list from which the centroids are found."""


@dataclass(frozen=True, eq=False)
class Quantizer:
    """What was trained.

    Attributes:
        axes: [axes + 1, size] float32, the mean of the sample and orthonormal principal axes.
        centroids: [lists, axes] float32.
        levels: [2, axes] float32, smallest value and range of each coordinate beside its centroid.
    """

    axes: FloatArray
    centroids: FloatArray
    levels: FloatArray

    def coordinates(self, latents: FloatArray) -> FloatArray:
        """Coordinates [n, axes] of latents [n, size] along the axes."""
        points: FloatArray = (latents - self.axes[0]) @ self.axes[1:].T
        return points

    def encode(self, latents: FloatArray) -> tuple[IntArray, ByteArray]:
        """Find the list [n] and the code [n, axes] of latents [n, size]."""
        points = self.coordinates(latents)
        lists = self.scan.quantizer.search(points, 1)[1][:, 0]
        return lists, self.scan.sq.compute_codes(points - self.centroids[lists])

    @cached_property
    def scan(self) -> Any:
        """A ``faiss.IndexIVFScalarQuantizer`` without any code."""
        import faiss

        count, axes = self.centroids.shape
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(axes), axes, count, faiss.ScalarQuantizer.QT_8bit
        )
        index.quantizer.add(self.centroids)
        faiss.copy_array_to_vector(self.levels.reshape(-1), index.sq.trained)
        index.is_trained = True
        return index


def sample_size(count: int) -> int:
    """Number of latents from which to train for ``count`` of them."""
    return min(count, max(FITTED, _SAMPLED * _lists(count)))


def fit_axes(sample: FloatArray) -> FloatArray:
    """Find the principal axes of a sample [n, size], n > 0.

    Returns:
        [axes + 1, size] float32: the mean, and at most :data:`AXES` axes.
    """
    import faiss

    size = sample.shape[1]
    axes = faiss.PCAMatrix(size, min(AXES, *sample.shape))
    axes.train(sample)
    found = faiss.vector_to_array(axes.A).reshape(-1, size)
    return np.concatenate([sample.mean(0, dtype=np.float64)[None].astype(np.float32), found])


def fit(axes: FloatArray, points: FloatArray, count: int) -> Quantizer:
    """Train the rest.

    Args:
        axes: as :func:`fit_axes` returns them.
        points: [n, axes] coordinates of a sample.
        count: number of latents that the index is for.
    """
    import faiss

    lists = min(_lists(count), len(points))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatL2(points.shape[1]), points.shape[1], lists, faiss.ScalarQuantizer.QT_8bit
    )
    # Of a small sample the library warns on standard error.
    index.cp.min_points_per_centroid = 1
    index.train(points)
    levels = faiss.vector_to_array(index.sq.trained).reshape(2, -1)
    return Quantizer(axes, index.quantizer.reconstruct_n(0, lists), levels)


def _lists(count: int) -> int:
    return min(max(count // _IN_LIST, 1), _MOST_LISTS)
