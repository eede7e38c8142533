"""Similarity of face embeddings, see :mod:`restyle.core.faces.recognition`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from restyle.core.metrics.registry import Metric, Setting

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from restyle.core.faces.alignment import Framing
    from restyle.core.metrics.registry import Against, Measure


def _load(setting: Setting) -> Against:
    framing = setting.framing
    if framing is None:
        raise ValueError("id_similarity needs to know how the faces were cropped")

    if setting.identity_weights is not None:
        return _by(setting.identity_weights, framing, setting)

    import torch

    from restyle.core.faces.recognition import chips_from_crops, load_face_embedder

    embedder = copy.deepcopy(load_face_embedder()).to(setting.device, setting.dtype)

    def against(target: Tensor) -> Measure:
        embedding = embedder(chips_from_crops(target, framing))
        return lambda images: torch.cosine_similarity(
            embedder(chips_from_crops(images, framing)), embedding
        )

    return against


def _by(weights: Path, framing: Framing, setting: Setting) -> Against:
    """Similarity by a recogniser whose weights the user names."""
    import torch

    from restyle.core.faces.arcface import load_recogniser

    recogniser = copy.deepcopy(load_recogniser(weights)).to(setting.device, setting.dtype)

    def against(target: Tensor) -> Measure:
        embedding = recogniser(recogniser.chips(target, framing))
        return lambda images: torch.cosine_similarity(
            recogniser(recogniser.chips(images, framing)), embedding
        )

    return against


METRIC = Metric(
    name="id_similarity",
    title="identity",
    unit="cosine of face embeddings",
    definition="cosine of dlib_face_recognition_resnet_model_v1 embeddings (128-d)",
    better="higher",
    bounds=(-1, 1),
    load=_load,
    needs_faces=True,
    position=5,
)
