"""Finding directions by name or path. Imports no torch, so that listing directions is fast."""

from __future__ import annotations

from pathlib import Path

from restyle.core.editing.directions import SUFFIX, Direction, read_direction
from restyle.core.errors import SpecError
from restyle.core.networks.config import find_model

FOLDER = "directions"
"""Folder of a model directory with one file for each direction; subfolders have earlier ones."""


def directions_of(model: str) -> dict[str, Path]:
    """Files of a model's directions by name.

    Args:
        model: as for :func:`restyle.load_model`.

    Raises:
        SpecError, CheckpointError: there is no such model.
    """
    path, _ = find_model(model)
    folder = path / FOLDER if path.is_dir() else path.parent / FOLDER
    return {file.stem: file for file in sorted(folder.glob(f"*{SUFFIX}"))}


def earlier_versions(name: str, model: str) -> list[Direction]:
    """Earlier versions of one of a model's directions, for edits that were begun with them.

    Args:
        name: of the direction.
        model: as for :func:`restyle.load_model`.

    Raises:
        SpecError, CheckpointError: there is no such model, or a file is damaged.
    """
    files = directions_of(model)
    if name not in files:
        return []
    return [read_direction(file) for file in sorted(files[name].parent.glob(f"*/{name}{SUFFIX}"))]


def find_direction(spec: str, model: str) -> Direction:
    """Find a direction by name or path.

    Args:
        spec: the name of one of the model's directions, a direction's file, or another tool's file
            with a single direction (``.pt``, ``.npy``).
        model: as for :func:`restyle.load_model`.

    Raises:
        SpecError: the model has no direction of this name; the message lists those it has.
        CheckpointError: the file is missing or not a direction.
    """
    files = directions_of(model)
    if spec in files:
        return read_direction(files[spec])
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
        f"{model} has no direction {spec!r}; it has {', '.join(files) or 'none'}; or give a file"
    )
