"""Directions by name: those that come with a model, and the one that a user means.

This file imports no torch, so that directions can be listed at once.
"""

from __future__ import annotations

from pathlib import Path

from restyle.core.editing.directions import SUFFIX, Direction, read_direction
from restyle.core.errors import SpecError
from restyle.core.networks.config import find_model

FOLDER = "directions"
"""Where a model directory keeps its directions, one file each."""


def directions_of(model: str) -> dict[str, Path]:
    """The directions that a model directory holds: their files by name.

    Args:
        model: as :func:`restyle.load_model` takes it.

    Raises:
        SpecError, CheckpointError: there is no such model.
    """
    path, _ = find_model(model)
    folder = path / FOLDER if path.is_dir() else path.parent / FOLDER
    return {file.stem: file for file in sorted(folder.glob(f"*{SUFFIX}"))}


def find_direction(spec: str, model: str) -> Direction:
    """The direction that a user means.

    Args:
        spec: the name of one of the model's directions, or a file: one of this project's, or one
            of another tool's that holds a single direction (``.pt``, ``.npy``).
        model: as :func:`restyle.load_model` takes it.

    Raises:
        SpecError: the model has no direction of this name; the message lists those it has.
        CheckpointError: a file that is missing or no direction.
    """
    known = directions_of(model)
    if spec in known:
        return read_direction(known[spec])
    path = Path(spec)
    if path.suffix == SUFFIX:
        return read_direction(path)
    if path.suffix or len(path.parts) > 1:
        # Imported here, because these formats need torch.
        from restyle.core.editing.imported import import_directions

        found = import_directions(path)
        if len(found) > 1:
            raise SpecError(
                f"{path} holds {len(found)} directions; choose with restyle directions import"
            )
        return found[0]
    raise SpecError(
        f"{model} has no direction {spec!r}; it has {', '.join(known) or 'none'}; or give a file"
    )
