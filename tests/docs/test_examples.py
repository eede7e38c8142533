"""The scripts of ``examples/`` run as their first lines say, where the checkout is not at hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(name: str, *arguments: object, cwd: Path) -> str:
    """Run a script; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", EXAMPLES / name,
         *map(str, arguments)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_steps_of_a_photograph(tmp_path: Path, photos: Path) -> None:
    told = run(
        "steps_of_a_photograph.py", photos / "two friends.jpg", "steps.png", cwd=tmp_path
    ).splitlines()
    assert [line.partition(":")[0] for line in told] == ["face 0", "face 1"]
    assert all(0 < float(re.findall(r"lpips (\S+)", line)[0]) < 0.3 for line in told)
    with Image.open(tmp_path / "steps.png") as picture:
        assert picture.size == (6 * 64, 2 * 64)
        assert len(picture.convert("L").getcolors()) > 50


def test_a_collection_and_its_smiles(tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photos / "smile.jpg", folder)
    shutil.copy(photos / "two friends.jpg", folder)
    (folder / "empty.jpg").touch()
    first = run("collection.py", "photos", "out", cwd=tmp_path)
    assert "3 inputs in this run, 3 faces in out" in first
    assert "1 rejected: empty" in first
    assert "latents: (3, 10, 512) float32" in first
    steps = [float(value) for value in re.findall(r"step \d: lpips (\S+)", first)]
    assert len(steps) == 5
    assert steps[-1] < steps[0]
    again = run("collection.py", "photos", "out", cwd=tmp_path)
    assert "0 inputs in this run, 3 faces in out" in again

    told = run("smiles.py", "out", "edits", cwd=tmp_path)
    assert "3 faces, each edited to 3 strengths in edits" in told
    less, none, more = (float(value) for value in re.findall(r"score (\S+),", told))
    assert less < none < more
    assert pq.read_table(tmp_path / "edits" / "edits").num_rows == 9


def test_every_script_is_tried() -> None:
    tried = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in tried for path in EXAMPLES.glob("*.py"))
