"""Faces of a run with their photographs, as the page edits them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from restyle.core.errors import FatalError
from restyle.pipeline.decoding.reduced import Reduced
from restyle.pipeline.inversion.latent_of import stored_latent, stored_weights
from restyle.pipeline.ledger.datasets import LATENTS
from restyle.pipeline.ledger.parquet_files import file_of, open_parquet
from restyle.pipeline.report.input_pictures import InputPictures
from restyle.pipeline.results.faces import Place
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.viewer.pictures import Cache
from restyle.pipeline.viewer.sliders.editable import PHOTO_SIDE


class Photographs:
    """Reads the photographs of a run's faces. Thread-safe.

    Args:
        snapshot: the run.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._pictures = InputPictures(snapshot.output, PHOTO_SIDE)
        self._kept: Cache[tuple[str, int], Reduced] = Cache(
            lambda photo: 3 * photo.image.width * photo.image.height, 64 * 2**20
        )
        self._guard = threading.Lock()

    def of(self, place: Place) -> Reduced:
        """The photograph of a face, reduced.

        Raises:
            OSError, RestyleError: as :meth:`InputPictures.read`.
        """
        units = [unit.unit for unit in place.files.units]

        def read() -> Reduced:
            found = self._pictures.find(place.image_id, place.revision, units)
            return self._pictures.read(found)

        with self._guard:
            return self._kept.get((place.image_id, place.revision), read)

    def close(self) -> None:
        """Stop the child processes."""
        self._pictures.close()


@dataclass(frozen=True, eq=False)
class RunFace:
    """A face of a run.

    Attributes:
        snapshot: the run.
        place: of the face.
        name: of its photograph.
        photographs: reader of the run's photographs.
    """

    snapshot: Snapshot
    place: Place
    name: str
    photographs: Photographs

    @property
    def latent(self) -> FloatArray:
        """Its latent, [n_styles, style_dim]."""
        return stored_latent(self.snapshot, self.place)

    @property
    def weights(self) -> bytes | None:
        """Weights of the generator that was tuned for it; None for the model's own."""
        return stored_weights(self.snapshot, self.place)

    @property
    def quad(self) -> npt.NDArray[np.float64]:
        """Corners of the crop in the photograph's pixels, [4, 2]."""
        named = file_of(self.place.files, LATENTS)
        if named is None:
            raise FatalError(f"the latents of this face are missing; {DAMAGE}")
        with open_parquet(self.snapshot.out, named[0]) as parquet:
            column = parquet.read(["quad"], use_threads=False)["quad"]
        corners = np.asarray(column[self.place.row].as_py(), np.float64)
        return corners.reshape(4, 2)

    def photo(self) -> Reduced:
        """The photograph, reduced."""
        return self.photographs.of(self.place)
