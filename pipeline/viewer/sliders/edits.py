"""Rendering of edited faces for the sliders of the page."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from restyle.core.editing.directions import (
    SUFFIX,
    About,
    Layers,
    read_about,
    read_direction,
    show_layers,
)
from restyle.core.editing.lookup import directions_of
from restyle.core.errors import RestyleError, SpecError
from restyle.core.networks.config import ModelConfig, find_model, read_config
from restyle.pipeline.accounting.run_record import spec_of
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.viewer.pictures import Cache

if TYPE_CHECKING:
    from torch import Tensor

    from restyle.core.editing.directions import Direction
    from restyle.core.inference.model import Model

FURTHEST = 5.0
"""Largest absolute strength of an edit; of sliders where the direction has no reliable range."""

POLES = {
    "age": ("younger", "older"),
    "smile": ("serious", "smiling"),
    "mouth": ("closed", "open"),
    "eyes": ("closed", "open"),
    "hair": ("shorter", "longer"),
    "glasses": ("without", "with"),
    "beard": ("without", "with"),
    "gender": ("female", "male"),
    "pose": ("left", "right"),
}
"""What a direction leads to below and above zero, by its name."""


@dataclass(frozen=True)
class Amount:
    """How far a face is moved along a direction.

    Attributes:
        strength: in units of the direction's scale.
        layers: the styles to move, or ``all``; the direction's own when None.
    """

    strength: float
    layers: Layers | str | None = None


Moves = Mapping[str, Amount]
"""Amounts by direction."""


class Edits:
    """Renders edits of a run's faces. The model is loaded on first use.

    Args:
        snapshot: the run.
        model: as for :func:`restyle.core.load_model`; the run's model when None.
        folders: of further directions than the model's, or their files.

    Attributes:
        directions: metadata of the directions by name.
        reason: why nothing can be rendered; empty if it can.

    Raises:
        SpecError: ``model`` is not the run's, or a folder has no direction.
        CheckpointError: a direction's file is damaged.
    """

    def __init__(
        self, snapshot: Snapshot, model: str | None = None, folders: Sequence[str] = ()
    ) -> None:
        self._current = snapshot
        self._guard = threading.Lock()
        self._model: Model | None = None
        self._tuned: tuple[bytes, Model] | None = None
        self._loaded: dict[str, Direction] = {}
        self._rendered: Cache[tuple[object, ...], Image.Image] = Cache(
            lambda image: 3 * image.width * image.height, 16 * 2**20
        )
        self.directions: dict[str, About] = {}
        self.reason = ""
        self.config: ModelConfig | None = None
        self.spec = model or spec_of(snapshot.storage, snapshot.settings.model)
        self._own: dict[str, Path] = {}
        self._paths: dict[str, Path] = {}
        try:
            self._find_model()
        except RestyleError as error:
            if model is not None:
                raise
            self.reason = f"Nothing can be edited: {error}."
        self._paths = self._own | _files_in(folders, set(self._own))
        self.directions = {name: read_about(each) for name, each in self._paths.items()}

    def _find_model(self) -> None:
        """Find the model and its directions, without torch."""
        path, encoder = find_model(self.spec)
        if path.is_dir():
            self.config = read_config(path)
            self._check(self.config.fingerprint(self.config.encoder_named(encoder)))
        self._own = directions_of(str(path))

    def about(self) -> list[dict[str, Any]]:
        """Description of the directions for the page."""
        return [
            {
                "name": name,
                "kind": about.kind,
                "layers": show_layers(about.layers),
                "furthest": _furthest(about),
                "poles": POLES.get(about.name.lower(), ("less", "more")),
                # As restyle edit takes it.
                "argument": name if name in self._own else str(self._paths[name]),
            }
            for name, about in self.directions.items()
        ]

    def check(self, moves: Moves) -> None:
        """Check that the directions exist and the strengths are within bounds.

        Raises:
            SpecError: they do not, or nothing can be rendered.
        """
        if self.reason:
            raise SpecError(self.reason)
        for name, amount in moves.items():
            if name not in self.directions:
                raise SpecError(f"the model has no direction {name!r}")
            if not abs(amount.strength) <= FURTHEST:
                raise SpecError(f"a strength must lie within -{FURTHEST:g} and {FURTHEST:g}")

    def moved(self, latent: FloatArray, moves: Moves) -> FloatArray:
        """Move a latent.

        Args:
            latent: [n_styles, style_dim].
            moves: amounts by direction.

        Returns:
            [n_styles, style_dim].

        Raises:
            SpecError: a direction or its layers do not fit, or see :meth:`check`.
        """
        import torch

        from restyle.core.editing.strengths import apply

        self.check(moves)
        result: Tensor = torch.from_numpy(latent[None])
        for name, amount in moves.items():
            if amount.strength:
                direction, layers = self._direction(name), amount.layers
                if layers == "all":
                    direction, layers = direction.described(layers=None), None
                chosen = layers if isinstance(layers, tuple) else None
                result = apply(result, direction, amount.strength, chosen)
        moved: FloatArray = result[0].numpy()
        return moved

    def picture(
        self, latent: FloatArray, moves: Moves, weights: bytes | None = None
    ) -> Image.Image:
        """Render a moved latent, RGB at the model's size; the last ones are kept.

        Args:
            latent: [n_styles, style_dim].
            moves: amounts by direction.
            weights: of the generator that was tuned for this face; None for the model's own.

        Raises:
            SpecError: as :meth:`moved`, or the model is not the run's.
            FatalError: the model cannot be loaded.
        """
        moved = self.moved(latent, moves)
        key = (moved.tobytes(), weights)
        return self._rendered.get(key, lambda: self._render(moved, weights))

    def _render(self, latent: FloatArray, weights: bytes | None) -> Image.Image:
        import torch

        from restyle.core.imaging.preprocessing import to_pictures

        # One at a time, because each uses all cores.
        with self._guard, torch.inference_mode():
            model = self._model_with(weights)
            return to_pictures(model.synthesize(torch.from_numpy(latent[None])))[0]

    def _model_with(self, weights: bytes | None) -> Model:
        """The model with the generator that was tuned for a face, if any."""
        model = self.model()
        if weights is None:
            return model
        from restyle.core.inference.tuning import decoded

        # One is kept: a slider renders the same face many times.
        if self._tuned is None or self._tuned[0] != weights:
            self._tuned = (weights, model.tuned(decoded(weights)))
        return self._tuned[1]

    def model(self) -> Model:
        """The model, loaded on first use.

        Raises:
            SpecError: it is not the run's.
            FatalError: it cannot be loaded.
        """
        if self._model is None:
            from restyle.core.inference.model import load_model

            model = load_model(self.spec, dtype="fp32")
            self._check(model.fingerprint)
            self._model = model
        return self._model

    def _check(self, fingerprint: str) -> None:
        """Compare the model with the run's; for published checkpoints only after loading."""
        wanted = self._current.settings.model_fingerprint
        if fingerprint != wanted:
            raise SpecError(
                f"{self.spec} is not the model that this run was "
                f"made with ({fingerprint[:12]} instead of {wanted[:12]})"
            )

    def _direction(self, name: str) -> Direction:
        if name not in self._loaded:
            self._loaded[name] = read_direction(self._paths[name])
        return self._loaded[name]


def _furthest(about: About) -> float:
    """Largest absolute strength of a direction's slider, whose zero is in its middle."""
    return FURTHEST if about.reliable is None else min(FURTHEST, max(map(abs, about.reliable)))


def _files_in(folders: Sequence[str], taken: set[str]) -> dict[str, Path]:
    """Files of directions in folders by name; names that are taken get their folder's."""
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        files = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else [folder]
        if not files:
            raise SpecError(f"{folder} has no direction (*{SUFFIX}); correct --directions")
        for file in files:
            name = file.stem
            if name in taken or name in found:
                name = f"{name} {file.absolute().parent.name}"
            found[name] = file.absolute()
    return found
