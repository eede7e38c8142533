"""ReStyle inversion: from images to StyleGAN latents.

::

    from restyle_core import load_model, align_faces, invert

    model = load_model("faces64")
    result = invert(model, images, steps=5)

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restyle_core.alignment import Face, Framing, align_faces
    from restyle_core.checkpoints import convert
    from restyle_core.config import ModelConfig
    from restyle_core.errors import RestyleError
    from restyle_core.images import decode_image
    from restyle_core.inversion import Inversion, invert
    from restyle_core.model import Model, load_model
    from restyle_core.refinement import Step, refine

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
    "Face": "alignment",
    "Framing": "alignment",
    "Inversion": "inversion",
    "Model": "model",
    "ModelConfig": "config",
    "RestyleError": "errors",
    "Step": "refinement",
    "align_faces": "alignment",
    "convert": "checkpoints",
    "decode_image": "images",
    "invert": "inversion",
    "load_model": "model",
    "refine": "refinement",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
