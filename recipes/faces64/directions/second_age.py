"""A second network that tells ages, to check what was fitted with the first.

It is the small one of the npm package ``@vladmandic/face-api`` (MIT): separable convolutions with
shortcuts, as in Xception, trained on photographs of 112 pixels. Its weights are bytes with a scale
and an offset for each array; names and shapes stand in a manifest beside them.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 112
"""Pixels of the faces that the network was trained on."""

BOXES = ((0.1, 0.15, 0.8), (0.12, 0.2, 0.75), (0.1, 0.2, 0.8), (0.08, 0.15, 0.84))
"""(left, top, side) of faces in crops of this domain, in shares of the crop's side."""

LOOKS = 2 * len(BOXES)
"""Looks at each crop: every box, as it is and mirrored."""

_ENLARGED = 256
_MEAN = (122.782, 117.001, 104.298)
_FOLDER = "package/model/"
_MANIFEST = f"{_FOLDER}age_gender_model-weights_manifest.json"


class SecondAges:
    """The network: pictures of faces to years, differentiable.

    Args:
        package: the ``.tgz`` file that ``npm pack @vladmandic/face-api`` makes.
    """

    def __init__(self, package: Path) -> None:
        with tarfile.open(package) as archive:
            (group,) = json.loads(_read(archive, _MANIFEST))
            data = b"".join(_read(archive, _FOLDER + path) for path in group["paths"])
        self._arrays: dict[str, Tensor] = {}
        position = 0
        for entry in group["weights"]:
            array, size = _array(entry, data[position:])
            self._arrays[entry["name"]] = array
            position += size

    def __call__(self, pictures: Tensor) -> Tensor:
        """Years [B] of faces [B, 3, S, S] in [-1, 1] that fill their picture.

        Pictures of another side than :data:`SIDE` are resized, bilinearly.
        """
        if pictures.shape[-1] != SIDE:
            pictures = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", antialias=True)
        x = ((pictures + 1) * 127.5 - torch.tensor(_MEAN)[:, None, None]) / 255
        x = F.relu(self._convolve(_padded(x), "entry_flow/conv_in", stride=2))
        x = self._reduce(x, "entry_flow/reduction_block_0", activate=False)
        x = self._reduce(x, "entry_flow/reduction_block_1")
        for block in range(2):
            y = x
            for layer in range(3):
                name = f"middle_flow/main_block_{block}/separable_conv{layer}"
                y = self._separable(F.relu(y), name)
            x = x + y
        x = self._reduce(x, "exit_flow/reduction_block")
        x = F.relu(self._separable(x, "exit_flow/separable_conv")).mean(dim=(2, 3))
        return (x @ self._arrays["fc/age/weights"] + self._arrays["fc/age/bias"])[:, 0]

    @torch.inference_mode()
    def of_crops(self, crops: Tensor) -> Tensor:
        """Years [N] of aligned crops [N, 3, S, S], the mean of eight looks at each.

        Each of :data:`BOXES` is looked at as it is and mirrored; nothing is detected.
        """
        looks = [self.look(crops, number) for number in range(LOOKS)]
        return torch.stack(looks).mean(dim=0)

    def look(self, crops: Tensor, number: int) -> Tensor:
        """Years [N] by one of the :data:`LOOKS` looks, differentiable."""
        large = F.interpolate(crops, (_ENLARGED, _ENLARGED), mode="bicubic").clamp(-1, 1)
        left, top, side = (round(share * _ENLARGED) for share in BOXES[number // 2])
        face = large[..., top : top + side, left : left + side]
        return self(face.flip(3) if number % 2 else face)

    def _convolve(self, x: Tensor, name: str, stride: int) -> Tensor:
        filters, bias = self._arrays[f"{name}/filters"], self._arrays[f"{name}/bias"]
        return F.conv2d(x, filters.permute(3, 2, 0, 1), bias, stride)

    def _separable(self, x: Tensor, name: str) -> Tensor:
        depthwise = self._arrays[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
        pointwise = self._arrays[f"{name}/pointwise_filter"].permute(3, 2, 0, 1)
        x = F.conv2d(x, depthwise, padding=1, groups=x.shape[1])
        return F.conv2d(x, pointwise, self._arrays[f"{name}/bias"])

    def _reduce(self, x: Tensor, name: str, *, activate: bool = True) -> Tensor:
        y = self._separable(F.relu(x) if activate else x, f"{name}/separable_conv0")
        y = self._separable(F.relu(y), f"{name}/separable_conv1")
        y = F.max_pool2d(_padded(y, -torch.inf), 3, 2)
        return y + self._convolve(x, f"{name}/expansion_conv", stride=2)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise FileNotFoundError(name)
    return file.read()


def _array(entry: dict[str, Any], data: bytes) -> tuple[Tensor, int]:
    """An array of the manifest from the front of the data, and how many bytes it took."""
    count = int(np.prod(entry["shape"]))
    if (quantization := entry.get("quantization")) is None:
        values = np.frombuffer(data, "<f4", count)
    else:
        levels = np.frombuffer(data, np.dtype(quantization["dtype"]).newbyteorder("<"), count)
        values = levels * quantization["scale"] + quantization["min"]
    size = count * (4 if quantization is None else levels.itemsize)
    return torch.tensor(values.reshape(entry["shape"]), dtype=torch.float32), size


def _padded(x: Tensor, value: float = 0.0) -> Tensor:
    """A row and a column more at the end: what "same" means for even sides and a stride of two."""
    return F.pad(x, (0, 1, 0, 1), value=value)
