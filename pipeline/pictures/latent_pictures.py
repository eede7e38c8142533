"""Pictures from latents of an output: interpolation, style mixing, edits, refinement steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from restyle.core.editing import strengths as editing
from restyle.core.editing.directions import Layers
from restyle.core.errors import FatalError, SpecError
from restyle.core.imaging.preprocessing import to_pictures
from restyle.core.inference.model import Model
from restyle.core.inference.tuning import decoded
from restyle.core.inference.way import walk
from restyle.pipeline.accounting.run_record import spec_of
from restyle.pipeline.accounting.status import settings_of
from restyle.pipeline.editing.request import Move, find_directions
from restyle.pipeline.inversion.inverter import way_of
from restyle.pipeline.listener import Listener
from restyle.pipeline.pictures.render_model import load_renderer
from restyle.pipeline.results.aligned_inputs import read_inputs
from restyle.pipeline.results.found_face import find_face, find_weights
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import open_storage


@dataclass(frozen=True, eq=False)
class Pictures:
    """Latents and their pictures.

    Attributes:
        latents: [N, n_styles, style_dim] float32.
        images: N pictures.
    """

    latents: Tensor
    images: Sequence[Image.Image]

    def there_and_back(self) -> Pictures:
        """Append the reverse order, so that the frames can be repeated without a jump."""
        order = [*range(len(self.images)), *range(len(self.images) - 2, 0, -1)]
        return Pictures(self.latents[order], [self.images[index] for index in order])


class LatentPictures:
    """Renders latents of one output.

    Args:
        out: the output, a path or any fsspec URI.
        model: to render with; the one of the inversion when None.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        SpecError: there is no output, or its model has changed.
    """

    def __init__(self, out: str, model: str | None = None, device: str = "auto") -> None:
        storage = open_storage(out)
        self._out = out
        self._settings = settings_of(storage)
        self._spec = model or spec_of(storage, self._settings.model)
        if self._settings.pivotal is not None and model is not None:
            raise SpecError(
                f"the faces of {storage.uri} have generators of their own; leave --model out"
            )
        self.model = load_renderer(storage, self._settings, model, device)

    def interpolated(self, first: str, last: str, frames: int) -> Pictures:
        """Interpolate between two faces, both included; also between generators tuned for them."""
        ends = [self._latent(text) for text in (first, last)]
        latents = editing.interpolate(ends[0], ends[1], frames)
        if self._settings.pivotal is None:
            return self._rendered(latents)
        start, end = (self._weights(text) for text in (first, last))
        made: list[Image.Image] = []
        for latent, share in zip(latents, torch.linspace(0, 1, frames).tolist(), strict=True):
            weights = {name: start[name].lerp(end[name], share) for name in start}
            made += self._rendered(latent[None], self.model.tuned(weights)).images
        return Pictures(latents, made)

    def mixed(
        self, contents: Sequence[str], styles: Sequence[str], layers: Layers
    ) -> tuple[Pictures, Pictures, Pictures]:
        """Mix the styles of all pairs of two lists of faces.

        Returns:
            The contents, the styles, and the mixtures, ordered by content.
        """
        if self._settings.pivotal is not None:
            raise SpecError(
                f"the faces of {self._out} have generators of their own, so their styles cannot be "
                "mixed; mix faces of an output without --pivotal"
            )
        content = torch.stack([self._latent(text) for text in contents])
        style = torch.stack([self._latent(text) for text in styles])
        parts = [editing.mix(each[None], style, layers) for each in content]
        return self._rendered(content), self._rendered(style), self._rendered(torch.cat(parts))

    def edited(
        self,
        face: str,
        direction: str,
        strengths: Sequence[float],
        listener: Listener | None = None,
    ) -> Pictures:
        """Apply a direction to a face with several strengths.

        Args:
            face: as for :func:`find_face`.
            direction: name or file of the direction.
            strengths: in units of its scale.
            listener: receiver of notes about the direction.
        """
        wanted = Move(direction, tuple(strengths))
        (move,) = find_directions([wanted], self._spec, None, listener or Listener())
        latent = self._latent(face).expand(len(strengths), -1, -1)
        moved = editing.apply(latent, move, torch.tensor(list(strengths)))
        if self._settings.pivotal is None:
            return self._rendered(moved)
        return self._rendered(moved, self.model.tuned(self._weights(face)))

    @torch.inference_mode()
    def refined(self, face: str) -> Pictures:
        """Repeat a face's inversion; returns the average and every step."""
        rows = find_face(self._out, face)
        ((_, picture),) = read_inputs(self._out, self._settings, set(rows.keys))
        average = self.model.latent_avg[None]
        x = self.model.preprocess([picture])
        steps = list(walk(self.model, x, way_of(self._settings)))
        latents = torch.cat([average, *(step.latents for step in steps)])
        images = [self.model.synthesize(average), *(step.image for step in steps)]
        return Pictures(latents.cpu(), to_pictures(torch.cat(images)))

    def _weights(self, text: str) -> dict[str, Tensor]:
        """Weights of the generator that was tuned for a face, in float32."""
        weights = find_weights(self._out, text)
        if weights is None:
            raise FatalError(f"the generator of {text} is missing in {self._out}; {DAMAGE}")
        return {name: value.float() for name, value in decoded(weights).items()}

    def _latent(self, text: str) -> Tensor:
        return torch.from_numpy(find_face(self._out, text).latents[0].copy())

    @torch.inference_mode()
    def _rendered(self, latents: Tensor, model: Model | None = None) -> Pictures:
        return Pictures(latents, to_pictures((model or self.model).synthesize(latents)))
