"""``restyle train encoder`` refuses what cannot work in one line, before it trains."""

from pathlib import Path

import numpy as np
import pytest

from tests.command import restyle

SPEC = """
name = "toy"
generator = "faces64"
init = "faces64"
crops = ["crops.npz"]
depths = [1, 2, 2, 1]
fine_width = 160
synthetic = 1.0
[schedule]
images = 2
batch = 1
threads = 1
[losses]
lpips = 0
identity = 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "crops.npz", images=np.zeros((3, 64, 64, 3), np.uint8))
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    return tmp_path


def test_bad_specifications_are_one_line_and_block_nothing(folder: Path) -> None:
    cases = {
        "fine_width = 160": ("fine_width = 96", "does not fit SmallBackboneEncoder"),
        "synthetic = 1.0": ("synthetic = 1.5", "synthetic: Input should be less than"),
        '"crops.npz"': ('"damaged.npz"', "damaged.npz is no file of training crops"),
    }
    for old, (new, message) in cases.items():
        (folder / "spec.toml").write_text(SPEC.replace(old, new))
        run = restyle("train", "encoder", folder / "spec.toml", "--out", folder / "run")
        assert run.returncode == 2
        assert run.stderr.startswith("error: ")
        assert message in run.stderr
        assert run.stderr.count("\n") == 1
        assert not (folder / "run" / "checkpoint.pt").exists()
    # The repaired specification may use the folder: nothing was trained in it.
    (folder / "spec.toml").write_text(SPEC)
    run = restyle("train", "encoder", folder / "spec.toml", "--out", folder / "run")
    assert run.returncode == 0, run.stderr
    assert (folder / "run" / "checkpoint.pt").exists()
