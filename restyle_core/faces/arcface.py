"""Face recognisers that papers on inversion measure identity with, from weights that a user names.

IR-SE50 of ArcFace (Deng et al., 1801.07698), with which pSp, e4e and ReStyle train, and IR-101 of
CurricularFace (Huang et al., 2004.00288), with which they report. Weights are ``state_dict`` files
as published (``model_ir_se50.pth``, ``CurricularFace_Backbone.pth``).

Both see faces as cut out for ArcFace's template of 112 pixels, by a fixed box of the aligned crop:
IR-SE50 by that of the training losses, [35:223, 32:220] of 256 pixels. For CurricularFace the
papers align each image by the landmarks of MTCNN; here the box stands for it to which the template
moves FFHQ's mean eyes and mouth, so that a turned or wide face is cut out a little differently.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.checkpoints.published import read_pickle
from restyle.core.checkpoints.weights import State, fit
from restyle.core.errors import CheckpointError
from restyle.core.faces.alignment import FFHQ, Framing
from restyle.core.faces.recognition import resampled_box
from restyle.core.networks.backbones import IRSE50, BackboneShape

SIDE = 112
"""Side in pixels of what the recognisers see."""

Box = tuple[tuple[float, float], float]

ARCFACE_BOX: Box = ((32 / 256, 35 / 256), 188 / 256)
"""``((left, top), side)`` of IR-SE50's crop in units of the FFHQ quad's side."""

# In the FFHQ quad eyes are at (0.375, 0.472) and (0.625, 0.472) and the mouth at (0.5, 0.75), by
# its construction (1812.04948, appendix C); in ArcFace's template at (38.3, 51.7), (73.5, 51.5) and
# (56.1, 92.3) of 112 pixels. The least-squares scale is 144.4 pixels to the quad's side.
CURRICULAR_BOX: Box = ((0.1122, 0.1135), 0.7757)
"""``((left, top), side)`` of CurricularFace's crop in units of the FFHQ quad's side."""

_EMBEDDING = 512
_POOLED = 7


class Recogniser(IRSE50):
    """A backbone with ArcFace's output layer; parameters are frozen.

    Args:
        shape: of the backbone.
        excite: squeeze-and-excitation in its units: IR-SE50; without it IR-101.
        affine: whether the last norm has a weight and a bias.
    """

    def __init__(self, shape: BackboneShape, *, excite: bool, affine: bool) -> None:
        super().__init__(shape, excite=excite)
        self.box = ARCFACE_BOX if excite else CURRICULAR_BOX
        self.name = "IR-SE50" if excite else "CurricularFace"
        channels = shape.widths[-1]
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(channels * _POOLED**2, _EMBEDDING),
            nn.BatchNorm1d(_EMBEDDING, affine=affine),
        )

    def forward(self, chips: Tensor) -> Tensor:
        """Embed faces.

        Args:
            chips: [B, 3, 112, 112] RGB in [-1, 1], of :meth:`chips`.

        Returns:
            [B, 512] float32, not normalised.
        """
        dtype = next(self.parameters()).dtype
        features: Tensor = self.output_layer(self.features(chips.to(dtype))[-1])
        return features.float()

    def chips(self, images: Tensor, framing: Framing = FFHQ) -> Tensor:
        """Cut out what the recogniser sees.

        Args:
            images: [B, 3, h, w] in [-1, 1], aligned with ``framing``.
            framing: the domain's crop.

        Returns:
            [B, 3, 112, 112] in [-1, 1], float32.
        """
        if framing == FFHQ and self.box == ARCFACE_BOX and min(images.shape[-2:]) >= 256:
            # As the losses of pSp, e4e and ReStyle do it, to the bit.
            pooled = F.adaptive_avg_pool2d(images.float(), 256)
            return F.adaptive_avg_pool2d(pooled[:, :, 35:223, 32:220], SIDE)
        return resampled_box(images, framing, self.box, SIDE)


@functools.cache
def load_recogniser(path: Path) -> Recogniser:
    """Load a recogniser; the result is cached and shared, so copy it before you convert it.

    Args:
        path: a ``state_dict`` of IR-SE50 or IR-101, read without running code.

    Returns:
        The network on the CPU in float32, frozen, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, unsafe, or holds another network.
    """
    # Tensors created in inference mode can never be used outside of it.
    with torch.inference_mode(False):
        return _read(path)


def _read(path: Path) -> Recogniser:
    content = read_pickle(path)
    inner = content.get("state_dict", content)
    if not isinstance(inner, Mapping) or not all(isinstance(v, Tensor) for v in inner.values()):
        raise CheckpointError(f"{path} holds no weights of a face recogniser")
    state: State = {str(key).removeprefix("module."): value for key, value in inner.items()}
    try:
        shape = IRSE50.shape_from_state(state)
        pooled = state["output_layer.3.weight"].shape
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"{path} holds no IR-SE50 or IR-101 for faces of {SIDE} pixels: {error} is missing"
        ) from error
    if tuple(pooled) != (_EMBEDDING, shape.widths[-1] * _POOLED**2):
        raise CheckpointError(
            f"{path} holds a recogniser for faces of another size than {SIDE} pixels"
        )
    with torch.device("meta"):
        network = Recogniser(
            shape,
            excite="body.0.res_layer.5.fc1.weight" in state,
            affine="output_layer.4.weight" in state,
        )
    fit(network, state, f"{path}: the recogniser")
    return network
