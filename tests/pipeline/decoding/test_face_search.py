"""The convolutional detector in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from restyle.core.errors import FatalError
from restyle.core.faces.cnn import search_here
from restyle.pipeline.decoding import face_search
from restyle.pipeline.decoding.face_search import FaceSearch
from restyle.pipeline.decoding.sandbox import CropSettings, IsolatedCropper
from restyle.pipeline.isolation.environment import child_environment

PICTURE = np.array(data.astronaut()[:256, 100:356])

PARENT = """
import os
import sys
from skimage import data
from restyle.pipeline.decoding.face_search import FaceSearch

search = FaceSearch()
assert search(data.astronaut()[:256, 100:356], 0.0)
print(search._child._process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def search() -> Iterator[FaceSearch]:
    made = FaceSearch()
    yield made
    made.close()


def test_squares_are_those_of_this_process_also_after_a_death(search: FaceSearch) -> None:
    expected = search_here(PICTURE, -0.5)
    assert expected
    assert search(PICTURE, -0.5) == expected
    assert search._child is not None
    os.kill(search._child._process.pid, signal.SIGKILL)
    assert search(PICTURE, -0.5) == expected
    assert search(np.zeros_like(PICTURE), 0.0) == []


def test_a_process_that_ends_again_and_again_is_no_fault_of_a_photograph(
    search: FaceSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face_search, "_MODULE", "restyle.pipeline.decoding.missing")
    with pytest.raises(FatalError, match="searches faces does not start"):
        search(PICTURE, 0.0)


def test_weights_that_cannot_be_read_are_told_as_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\n"
        "import restyle.core.checkpoints.embedded as embedded\n"
        f"embedded.FOLDER = Path({str(tmp_path)!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    settings = CropSettings(align=True, faces="largest", size=(64, 64), detector="cnn")
    cropper = IsolatedCropper(settings)
    try:
        with pytest.raises(FatalError, match="the face detector"):
            cropper([b"any"])
    finally:
        cropper.close()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent(ending: signal.Signals) -> None:
    root = str(Path(__file__).absolute().parents[3])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **child_environment(root)},
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.send_signal(ending)
    deadline = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
