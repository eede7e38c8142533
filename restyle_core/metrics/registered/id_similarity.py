"""Similarity of face embeddings, see :mod:`restyle.core.faces.recognition`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from restyle.core.metrics.registry import Metric, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from restyle.core.metrics.registry import Against, Measure


def _load(setting: Setting) -> Against:
    framing = setting.framing
    if framing is None:
        raise ValueError("id_similarity needs to know how the faces were cropped")

    import torch

    from restyle.core.faces.recognition import chips_from_crops, load_face_embedder

    embedder = copy.deepcopy(load_face_embedder()).to(setting.device, setting.dtype)

    def against(target: Tensor) -> Measure:
        embedding = embedder(chips_from_crops(target, framing))
        return lambda images: torch.cosine_similarity(
            embedder(chips_from_crops(images, framing)), embedding
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
