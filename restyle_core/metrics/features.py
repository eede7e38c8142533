"""Features in which sets of images are compared, as by the Fréchet distance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from restyle.core.faces.alignment import Framing
from restyle.core.faces.recognition import chips_from_crops, load_face_embedder
from restyle.core.metrics.lpips import load_lpips

Features = npt.NDArray[np.float64]

_BATCH = 50


@torch.inference_mode()
def embeddings(images: Tensor, framing: Framing) -> Features:
    """Face embeddings [N, 128] of aligned crops [N, 3, S, S] in [-1, 1].

    Args:
        images: the crops.
        framing: how they were cut out.
    """
    embedder = load_face_embedder()
    parts = [embedder(chips_from_crops(part, framing)) for part in torch.split(images, _BATCH)]
    return torch.cat(parts).double().numpy()


@torch.inference_mode()
def pooled_features(images: Tensor) -> Features:
    """What LPIPS compares, without places: [N, 1152] of images [N, 3, S, S] in [-1, 1].

    AlexNet's five ReLU maps (64, 192, 384, 256 and 256 channels) at the images' own size, every
    position's vector at length 1, averaged over the positions and put side by side.
    """
    network = load_lpips()
    parts = [
        torch.cat([map_.mean(dim=(2, 3)) for map_ in network.features(part)], dim=1)
        for part in torch.split(images, _BATCH)
    ]
    return torch.cat(parts).double().numpy()


def unit_length(features: Features) -> Features:
    """Rows [N, d] divided by their lengths, so that their products are cosines."""
    scaled: Features = features / np.linalg.norm(features, axis=1, keepdims=True)
    return scaled
