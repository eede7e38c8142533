"""Rendering of edited faces for the sliders of the page."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from restyle.core.editing.directions import About, read_about, read_direction
from restyle.core.editing.lookup import directions_of
from restyle.core.errors import RestyleError, SpecError
from restyle.core.networks.config import find_model, read_config
from restyle.pipeline.accounting.run_record import spec_of
from restyle.pipeline.inversion.latent_of import stored_latent, stored_weights
from restyle.pipeline.results.faces import Place
from restyle.pipeline.results.snapshot import Snapshot

if TYPE_CHECKING:
    from torch import Tensor

    from restyle.core.editing.directions import Direction
    from restyle.core.inference.model import Model

FURTHEST = 5.0
"""Largest absolute strength of a slider."""


class Edits:
    """Renders edits of a run's faces. The model is loaded on first use.

    Args:
        snapshot: the run.
        model: as for :func:`restyle.core.load_model`; the run's model when None.

    Attributes:
        directions: metadata of the model's directions by name.
        reason: why nothing can be rendered; empty if it can.
    """

    def __init__(self, snapshot: Snapshot, model: str | None = None) -> None:
        self._current = snapshot
        self._guard = threading.Lock()
        self._model: Model | None = None
        self._tuned: tuple[tuple[str, int, int], Model] | None = None
        self._loaded: dict[str, Direction] = {}
        self.directions: dict[str, About] = {}
        self.reason = ""
        self._paths: dict[str, Path] = {}
        self._spec = model or spec_of(snapshot.storage, snapshot.settings.model)
        try:
            self._find_directions()
        except RestyleError as error:
            if model is not None:
                raise
            self.reason = f"Nothing can be edited: {error}."
        if not self.directions and not self.reason:
            self.reason = "The model has no directions of editing."

    def _find_directions(self) -> None:
        """Find the model and its directions, without torch."""
        path, encoder = find_model(self._spec)
        if path.is_dir():
            config = read_config(path)
            self._check(config.fingerprint(config.encoder_named(encoder)))
        self._paths = directions_of(str(path))
        self.directions = {name: read_about(each) for name, each in self._paths.items()}

    def render(self, place: Place, strengths: Mapping[str, float]) -> bytes:
        """Render an edited face.

        Args:
            place: location of the face.
            strengths: by direction, in units of its scale.

        Returns:
            The image as WebP.

        Raises:
            SpecError: there is no such direction, or a strength is out of bounds.
            FatalError: the model is not the run's, or a file is damaged.
        """
        if self.reason:
            raise SpecError(self.reason)
        for name, strength in strengths.items():
            if name not in self.directions:
                raise SpecError(f"the model has no direction {name!r}")
            if not abs(strength) <= FURTHEST:
                raise SpecError(f"a strength must lie within -{FURTHEST:g} and {FURTHEST:g}")
        # One at a time, because each uses all cores.
        with self._guard:
            return self._render(place, strengths)

    def _render(self, place: Place, strengths: Mapping[str, float]) -> bytes:
        import torch
        from PIL import Image

        from restyle.core.editing.strengths import apply

        model = self._model_of(place)
        latent: Tensor = torch.from_numpy(stored_latent(self._current, place)[None])
        for name, strength in strengths.items():
            if strength:
                latent = apply(latent, self._direction(name), strength)
        with torch.inference_mode():
            image = model.synthesize(latent)[0]
        values = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        buffer = io.BytesIO()
        side = max(values.shape[1:])
        Image.fromarray(values.permute(1, 2, 0).cpu().numpy()).save(
            buffer, "WEBP", lossless=side <= 128, quality=90
        )
        return buffer.getvalue()

    def _model_of(self, place: Place) -> Model:
        """The model of a face, with the generator that was tuned for it, if any."""
        model = self._load()
        weights = stored_weights(self._current, place)
        if weights is None:
            return model
        from restyle.core.inference.tuning import decoded

        # One is kept: a slider renders the same face many times.
        key = (place.image_id, place.revision, place.face)
        if self._tuned is None or self._tuned[0] != key:
            self._tuned = (key, model.tuned(decoded(weights)))
        return self._tuned[1]

    def _load(self) -> Model:
        if self._model is None:
            from restyle.core.inference.model import load_model

            model = load_model(self._spec, dtype="fp32")
            self._check(model.fingerprint)
            self._model = model
        return self._model

    def _check(self, fingerprint: str) -> None:
        """Compare the model with the run's; for published checkpoints only after loading."""
        wanted = self._current.settings.model_fingerprint
        if fingerprint != wanted:
            raise SpecError(
                f"{self._spec} is not the model that this run was "
                f"made with ({fingerprint[:12]} instead of {wanted[:12]})"
            )

    def _direction(self, name: str) -> Direction:
        if name not in self._loaded:
            self._loaded[name] = read_direction(self._paths[name])
        return self._loaded[name]
