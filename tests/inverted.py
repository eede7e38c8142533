"""A finished inversion of three photographs, for the tests of what comes after."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

NAMES = ("smile.jpg", "blue hat.jpg", "terrace.jpg")
"""Photographs with one face each."""


def make_inverted(folder: Path, photos: Path) -> Path:
    """Invert copies of the photographs in ``folder/photos`` into ``folder/out``, without Ray."""
    from restyle.pipeline.execution.request import Request
    from restyle.pipeline.inversion.run import invert_images
    from restyle.pipeline.ledger.settings import InversionSettings
    from restyle.pipeline.listener import Listener
    from tests.pipeline import in_process

    (folder / "photos").mkdir()
    for name in NAMES:
        shutil.copy(photos / name, folder / "photos" / name)
    settings = InversionSettings(model="faces64", steps=3, metrics=("l2",), dtype="fp32")
    request = Request(str(folder / "photos"), str(folder / "out"), settings, device="cpu")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    return folder
