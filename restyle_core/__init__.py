"""ReStyle inversion: from images to StyleGAN latents.

::

    from restyle.core import load_model
    from restyle.core import align_faces
    from restyle.core import invert

    model = load_model("faces64")
    result = invert(model, images, steps=5)

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restyle.core.checkpoints.directory import convert
    from restyle.core.errors import RestyleError
    from restyle.core.faces.alignment import Face, Framing, align_faces
    from restyle.core.imaging.decoding import decode_image
    from restyle.core.inference.inversion import Inversion, invert
    from restyle.core.inference.model import Model, load_model
    from restyle.core.inference.refinement import Step, refine
    from restyle.core.networks.config import ModelConfig

__all__ = [
    "Face",
    "Framing",
    "Inversion",
    "Model",
    "ModelConfig",
    "RestyleError",
    "Step",
    "align_faces",
    "convert",
    "decode_image",
    "invert",
    "load_model",
    "refine",
]

_HOMES = {
    "Face": "faces.alignment",
    "Framing": "faces.alignment",
    "Inversion": "inference.inversion",
    "Model": "inference.model",
    "ModelConfig": "networks.config",
    "RestyleError": "errors",
    "Step": "inference.refinement",
    "align_faces": "faces.alignment",
    "convert": "checkpoints.directory",
    "decode_image": "imaging.decoding",
    "invert": "inference.inversion",
    "load_model": "inference.model",
    "refine": "inference.refinement",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
