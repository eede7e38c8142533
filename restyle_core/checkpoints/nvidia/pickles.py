"""Network pickles of NVIDIA's programs: recognition, and the generator in them."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from restyle.core.checkpoints.nvidia.constructors import (
    CONSTRUCTORS,
    PersistentObject,
    TensorFlowNetwork,
)
from restyle.core.checkpoints.nvidia.layout import NvidiaGenerator
from restyle.core.checkpoints.nvidia.pytorch import convert_pytorch
from restyle.core.checkpoints.nvidia.tensorflow import convert_tensorflow
from restyle.core.checkpoints.nvidia.unpickler import PickleRefusedError, unpickle
from restyle.core.errors import CheckpointError, reason_of


def read_network_pickle(path: Path) -> NvidiaGenerator:
    """Read the generator of a network pickle: of several, the moving average.

    Args:
        path: a pickle of StyleGAN2 in TensorFlow (``(G, D, Gs)``), or of StyleGAN2-ADA in PyTorch
            (``{"G", "D", "G_ema", ...}``), or of the generator alone.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, or another network.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _generator(unpickle(data, CONSTRUCTORS))
    except PickleRefusedError as error:
        raise CheckpointError(f"{path} {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}") from error
    except (RuntimeError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        # Shapes that no network has, in a file that nobody trusts.
        raise CheckpointError(f"{path} holds no generator: {reason_of(error)}") from error


def _generator(content: Any) -> NvidiaGenerator:
    match content:
        case {"G_ema": network}:
            return convert_pytorch(network)
        case PersistentObject():
            return convert_pytorch(content)
        case (_, _, TensorFlowNetwork() as network) | (TensorFlowNetwork() as network):
            return convert_tensorflow(network)
    raise PickleRefusedError(
        "holds no generator; give a network pickle of StyleGAN2 (G, D, Gs) or StyleGAN2-ADA "
        "(with G_ema)"
    )
