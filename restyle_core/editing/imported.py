"""Directions from ``.pt`` and ``.npy`` files of other tools, read without running code.

Supported contents:

- one vector, [512] or [1, 512] (InterfaceGAN's boundaries, and those of ReStyle and e4e);
- one vector for each style, [18, 512] or [1, 18, 512];
- ``{"comp": [K, 1, 512], "std": [K], "mean"}``, GANSpace's components;
- a dictionary of names and vectors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from restyle.core.checkpoints.numpy_files import ArrayFileError, map_array
from restyle.core.checkpoints.published import open_pickle
from restyle.core.editing.directions import About, Direction, row_length, safe_name
from restyle.core.errors import CheckpointError, SpecError

SUFFIXES = (".pt", ".pth", ".npy")
_MOST_VALUES = 1 << 26
_MOST_DIRECTIONS = 10_000


def import_directions(path: str | os.PathLike[str]) -> list[Direction]:
    """Read all directions of a file, in the order of the file.

    A single direction is named after the file; of several, each has its number or name appended.
    One unit of strength is the vector in the file, or the standard deviation of a GANSpace
    component.

    Args:
        path: a ``.pt`` file of torch with tensors of any device, or ``.npy``.

    Raises:
        CheckpointError: the file is missing or damaged, would run code, or has no directions.
    """
    path = Path(path)
    content = _content(path)
    name = safe_name(path.stem)
    origin = f"imported from {path.name}"[:200]
    try:
        if isinstance(content, Mapping):
            if "comp" in content:
                return _ganspace(content, name, origin, path)
            named = {safe_name(f"{name}-{key}"): value for key, value in content.items()}
        else:
            named = {name: content}
        if not named or len(named) > _MOST_DIRECTIONS:
            raise CheckpointError(f"{path} holds {len(named)} directions")
        return [_imported(value, each, origin, path) for each, value in named.items()]
    except SpecError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _content(path: Path) -> Any:
    if path.suffix == ".npy":
        try:
            return map_array(path)
        except ArrayFileError as error:
            raise CheckpointError(f"{path} is no .npy of plain numbers: {error}") from error
    if path.suffix in SUFFIXES:
        return open_pickle(path)
    raise CheckpointError(
        f"{path}: directions of other tools are read from {', '.join(SUFFIXES)} files"
    )


def _imported(
    value: Any,
    name: str,
    origin: str,
    path: Path,
    kind: Literal["imported", "ganspace"] = "imported",
    scale: float | None = None,
) -> Direction:
    vector = _array(value, name, path)
    while vector.ndim > 1 and vector.shape[0] == 1:
        vector = vector[0]
    length = row_length(vector) if vector.ndim in (1, 2) and vector.size else 1.0
    # Direction.of reports a length that is zero or not finite.
    own_unit = length if length > 0 and np.isfinite(length) else 1.0
    about = About(
        name=name,
        kind=kind,
        scale=own_unit if scale is None else scale,
        unit="file" if scale is None else "standard deviation",
        origin=origin,
    )
    return Direction.of(vector, about)


def _ganspace(content: Mapping[str, Any], name: str, origin: str, path: Path) -> list[Direction]:
    vectors = _array(content["comp"], "comp", path)
    spreads = _array(content.get("std"), "std", path).reshape(-1)
    if vectors.ndim not in (2, 3) or len(vectors) != len(spreads):
        raise CheckpointError(
            f"{path}: {list(vectors.shape)} components with {len(spreads)} standard deviations"
        )
    if len(vectors) > _MOST_DIRECTIONS or not (np.isfinite(spreads) & (spreads > 0)).all():
        raise CheckpointError(f"{path}: its standard deviations are not positive numbers")
    return [
        _imported(vector, f"{name}-{index}", origin, path, "ganspace", float(spread))
        for index, (vector, spread) in enumerate(zip(vectors, spreads, strict=True))
    ]


def _array(value: Any, name: str, path: Path) -> npt.NDArray[np.float64]:
    if isinstance(value, Tensor):
        # Checked before any computation, because a small file may describe a huge tensor.
        dense = value.layout is torch.strided and not value.is_complex()
        if not dense or value.is_quantized or value.numel() > _MOST_VALUES:
            raise CheckpointError(f"{path}: {name} is not a dense tensor of a direction's size")
        return value.detach().double().numpy()
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiu" or value.size > _MOST_VALUES:
            raise CheckpointError(
                f"{path}: {name} is not an array of numbers of a direction's size"
            )
        return np.asarray(value, dtype=np.float64)
    raise CheckpointError(f"{path}: {name} is a {type(value).__name__}, not a direction")
