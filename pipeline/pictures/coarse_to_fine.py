"""Change of each refinement step by spatial frequency, from coarse to fine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from restyle.core.errors import SpecError
from restyle.core.inference.model import Model
from restyle.core.inference.refinement import refine
from restyle.core.metrics.frequency_bands import band_edges, band_energies
from restyle.pipeline.accounting.status import settings_of
from restyle.pipeline.pictures.render_model import load_renderer
from restyle.pipeline.results.aligned_inputs import read_inputs
from restyle.pipeline.results.face_rows import Selection, select_keys
from restyle.pipeline.storage.filesystem import open_storage

_BATCH = 16


@dataclass(frozen=True, eq=False)
class CoarseToFine:
    """Mean energy of each step's change by frequency band.

    Attributes:
        faces: number of faces.
        bands: names of the bands, coarse to fine, in cycles per image.
        energies: [steps, bands] mean square of the change in each band.
    """

    faces: int
    bands: list[str]
    energies: npt.NDArray[np.float64]

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Share of each band in each step's change, [steps, bands]."""
        shares: npt.NDArray[np.float64] = self.energies / self.energies.sum(axis=1, keepdims=True)
        return shares


def coarse_to_fine(out: str, limit: int, model: str | None, device: str) -> CoarseToFine:
    """Repeat the inversion of an output's faces and measure the change of each step.

    Steps are repeated from the aligned inputs, because the first step's change is relative to the
    average image, which is not part of an output.

    Args:
        out: the output, a path or any fsspec URI.
        limit: maximum number of faces.
        model: as for :class:`restyle.pipeline.pictures.latent_pictures.LatentPictures`.
        device: likewise.

    Raises:
        SpecError: there is no output, or it has no aligned inputs.
        FatalError: a file is damaged.
    """
    storage = open_storage(out)
    settings = settings_of(storage)
    if not settings.steps:
        raise SpecError(f"{storage.uri} was optimised from the average; no encoder refined it")
    keys = select_keys(out, Selection(limit=limit))
    inputs = (picture for _, picture in read_inputs(out, settings, set(keys)))
    loaded = load_renderer(storage, settings, model, device)
    faces, total = 0, np.zeros(0)
    while pictures := list(islice(inputs, _BATCH)):
        energies = np.stack(list(_steps(loaded, pictures, settings.steps)))
        total = energies if not faces else total + energies
        faces += len(pictures)
    if not faces:
        raise SpecError(f"{out} holds no face")
    return CoarseToFine(faces, _names(loaded), total / faces)


@torch.inference_mode()
def _steps(
    model: Model, pictures: list[Image.Image], steps: int
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the energies of each step's change, summed over the faces."""
    for step in refine(model, model.preprocess(pictures), steps):
        # Clipped, as in pictures.
        change = step.pooled.clamp(-1, 1) - step.previous.clamp(-1, 1)
        yield band_energies(change).sum(dim=0).double().cpu().numpy()


def _names(model: Model) -> list[str]:
    edges = band_edges(model.config.image_size)
    middle = [f"{low:g}-{high:g}" for low, high in pairwise(edges[:-1])]
    return [f"below {edges[0]:g}", *middle, f"{edges[-2]:g} and up"]
