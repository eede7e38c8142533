"""Photographs that are dropped on the page: decoded in a confined process, inverted step by step.

They stay in memory, the last few of them, and are never written anywhere.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.errors import RejectError, SpecError
from restyle.pipeline.decoding.crops import CropSettings, DecodedCrop
from restyle.pipeline.decoding.reduced import TIME_LIMIT, Reduced, ReducedReader
from restyle.pipeline.decoding.sandbox import IsolatedCropper
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.viewer.sliders.editable import PHOTO_SIDE
from restyle.pipeline.viewer.sliders.edits import Edits

if TYPE_CHECKING:
    from restyle.core.inference.refinement import Step

MAX_BYTES = 32 * 2**20
"""Maximum size of an uploaded photograph."""

MAX_KEPT = 8
"""Number of photographs that are kept; an older one must be dropped again."""

NAME = "your photograph.jpg"


@dataclass(eq=False)
class Uploaded:
    """A photograph that was dropped on the page.

    Attributes:
        crop: of its largest face, or the whole image.
        reduced: the photograph.
        refinement: yields its steps.
        pictures: of the steps that are done, from step 1 on.
    """

    crop: DecodedCrop
    reduced: Reduced
    refinement: Iterator[Step]
    pictures: list[Image.Image] = field(default_factory=list)
    last: FloatArray | None = None

    @property
    def name(self) -> str:
        """Name of the photograph; that on the user's machine is not asked for."""
        return NAME

    @property
    def latent(self) -> FloatArray:
        """Latent of the last step that is done, [n_styles, style_dim]."""
        if self.last is None:
            raise SpecError("the photograph is not inverted yet")
        return self.last

    @property
    def weights(self) -> None:
        """None, as no generator is tuned for it."""
        return None

    @property
    def quad(self) -> npt.NDArray[np.float64]:
        """Corners of the crop in the photograph's pixels, [4, 2]."""
        return self.crop.quad

    def photo(self) -> Reduced:
        """The photograph, reduced."""
        return self.reduced


class Uploads:
    """Inverts uploaded photographs like those of a run. Thread-safe.

    Args:
        settings: of the run.
        edits: with the run's model.

    Attributes:
        reason: why none can be inverted; empty if they can.
    """

    def __init__(self, settings: ResolvedSettings, edits: Edits) -> None:
        self._settings = settings
        self._edits = edits
        self._kept: OrderedDict[str, Uploaded] = OrderedDict()
        self._guard = threading.Lock()
        self._cropper: IsolatedCropper | None = None
        self._reader = ReducedReader(PHOTO_SIDE)
        self.reason = edits.reason if edits.config is None else ""
        if settings.bootstrap is not None:
            self.reason = "This run was made by two models; no photograph can be inverted like it."
        elif not settings.steps:
            self.reason = "This run took no step of an encoder; no photograph is inverted like it."

    def take(self, data: bytes) -> dict[str, Any]:
        """Decode a photograph and prepare its inversion.

        Args:
            data: content of the file, at most :data:`MAX_BYTES`.

        Returns:
            Its name for the other methods, and the number of steps.

        Raises:
            SpecError: it has no face, or cannot be decoded.
            FatalError: the model cannot be loaded.
        """
        if self.reason:
            raise SpecError(self.reason)
        if len(data) > MAX_BYTES:
            raise SpecError(f"the file has more than {MAX_BYTES:,} bytes, which is the limit")
        with self._guard:
            crop, reduced = self._decoded(data)
            identity = secrets.token_hex(16)
            self._kept[identity] = Uploaded(crop, reduced, self._refinement(crop))
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return {"id": identity, "steps": self._settings.steps, "size": reduced.size}

    def step(self, identity: str, number: int) -> Image.Image:
        """Picture of a step, 0 for the crop; steps up to it are computed now.

        Raises:
            SpecError: there is no such photograph or step.
        """
        with self._guard:
            found = self._found(identity)
            if number == 0:
                return Image.fromarray(found.crop.pixels)
            if not 0 < number <= self._settings.steps:
                raise SpecError(f"there is no step {number}")
            while len(found.pictures) < number:
                self._advance(found)
            return found.pictures[number - 1]

    def face(self, identity: str) -> Uploaded:
        """The photograph with its last latent, for edits.

        Raises:
            SpecError: there is no such photograph.
        """
        with self._guard:
            return self._found(identity)

    def close(self) -> None:
        """Stop the child processes."""
        with self._guard:
            self._reader.close()
            if self._cropper is not None:
                self._cropper.close()

    def _found(self, identity: str) -> Uploaded:
        if identity not in self._kept:
            raise SpecError("this photograph is not kept any more; drop it again")
        self._kept.move_to_end(identity)
        return self._kept[identity]

    def _decoded(self, data: bytes) -> tuple[DecodedCrop, Reduced]:
        if self._cropper is None:
            config, settings = self._edits.model().config, self._settings
            crops = CropSettings.of(config, settings.align, "largest", settings.searched_by)
            self._cropper = IsolatedCropper(replace(crops, time_limit=TIME_LIMIT))
        (outcome,) = self._cropper([data])
        if isinstance(outcome, RejectError):
            raise SpecError(f"the photograph cannot be inverted: {outcome}")
        try:
            return outcome[0], self._reader(data)
        except RejectError as error:
            raise SpecError(f"the photograph cannot be inverted: {error}") from error

    def _refinement(self, crop: DecodedCrop) -> Iterator[Step]:
        from restyle.core.inference.refinement import refine

        model = self._edits.model()
        x = model.preprocess(crop.pixels[None])
        return refine(model, x, self._settings.steps, tolerance=self._settings.tolerance or 0.0)

    def _advance(self, found: Uploaded) -> None:
        from restyle.core.imaging.preprocessing import to_pictures

        step = next(found.refinement, None)
        if step is None:
            # It stopped early; later steps would be the same.
            found.pictures.append(found.pictures[-1])
            return
        found.pictures += to_pictures(step.image)
        found.last = step.latents[0].float().cpu().numpy()
