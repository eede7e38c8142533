"""A real full disk: one line, exit code 2, nothing half-written, and the next run continues."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restyle.core.errors import FatalError
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from tests.pipeline.in_process import in_process


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def request_of(tmp_path: Path, out: Path, model: Path) -> Request:
    settings = InversionSettings(
        model=str(model), steps=2, align=False, metrics=(), reconstructions="all", dtype="fp32"
    )
    return Request(str(tmp_path / "images"), str(out), settings, device="cpu")


@pytest.fixture
def images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for index in range(24):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:02d}.png")


@pytest.mark.usefixtures("images")
def test_a_disk_that_fills_up(small_disk: Path, tmp_path: Path, tiny_model: Path) -> None:
    # Something else on the disk leaves room for a unit or two.
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(20_000))
    request = request_of(tmp_path, small_disk / "out", tiny_model)
    with pytest.raises(FatalError, match="no space is left on the device") as caught:
        invert_images(request, engine=in_process)
    assert "\n" not in str(caught.value)
    out = small_disk / "out"
    committed = list(out.glob("_ledger/unit-*.json"))
    for unit in committed:
        assert unit.stat().st_size > 0
    # No file without an entry that vouches for it, and no piece of one.
    names = {path.name[len("unit-") : -len(".json")] for path in committed}
    for part in out.rglob("part-*"):
        assert part.name.split("-", 1)[1].rsplit("-", 1)[0] in names
    assert not list(out.rglob("*.tmp"))
    assert not list(out.rglob(".*"))

    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    outcome = invert_images(request, engine=in_process)
    assert outcome.summary.faces == 24
    assert verify(str(out)).problems == []


@pytest.mark.usefixtures("images")
def test_a_disk_that_is_full_already(small_disk: Path, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(OSError, match="No space left"), (small_disk / "ballast").open("wb") as file:
        file.write(bytes(10**6))
    with pytest.raises(FatalError, match="no space is left on the device"):
        invert_images(request_of(tmp_path, small_disk / "out", tiny_model), engine=in_process)
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
