"""Directions by name or file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restyle.core.editing.directions import About, Direction
from restyle.core.editing.lookup import directions_of, earlier_versions, find_direction
from restyle.core.errors import SpecError

ABOUT = About(name="smile", kind="interfacegan", scale=2.5, layers=(0, 1, 4), accuracy=0.9)


def test_a_direction_is_found_by_name_or_file(tmp_path: Path, tiny_model: Path) -> None:
    own = tmp_path / "model"
    own.mkdir()
    for file in tiny_model.iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    model = str(own)
    assert directions_of(model) == {}
    with pytest.raises(SpecError, match=r"no direction 'smile'; it has none"):
        find_direction("smile", model)
    path = Direction.of(np.ones(32), ABOUT).save(own / "directions")
    assert directions_of(model) == {"smile": path}
    assert find_direction("smile", model).about == ABOUT
    assert find_direction("smile", f"{model}:single-pass-psp").about == ABOUT
    assert find_direction(str(path), str(tiny_model)).about == ABOUT
    (path.parent / "0.1").mkdir()
    for folder in (path.parent / "0.1", tmp_path):
        Direction.of(np.arange(32.0), ABOUT).save(folder)
    # An earlier version is none of the model's directions, but is found for edits begun with it.
    assert directions_of(model) == {"smile": path}
    (earlier,) = earlier_versions("smile", model)
    np.testing.assert_allclose(earlier.vector, np.arange(32) / np.sqrt(10416), rtol=1e-6)
    for name in ("frown", str(tmp_path / "smile.safetensors")):
        assert earlier_versions(name, model) == []
    with pytest.raises(SpecError, match="it has smile"):
        find_direction("frown", model)
    np.save(tmp_path / "other.npy", np.full((1, 32), 2.0))
    assert find_direction(str(tmp_path / "other.npy"), model).about.scale == pytest.approx(
        2 * np.sqrt(32)
    )
